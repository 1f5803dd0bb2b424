"""The table of errors: what engines and providers say, and what follows from it, whole and in band."""

from __future__ import annotations

import gzip

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.outcomes import CONSEQUENCES, OnHealth, Outcome, Retry
from router.upstream import verdicts
from router.upstream.classify import AttemptEnd, end_in_band, end_of_answer, judge
from router.upstream.said import Said, read_body, read_document
from router.upstream.verdicts import HUNDREDS, KINDS, MESSAGES, STATUSES, WORDS, Verdict, normal
from tests.support import captures

CLIENT, MISSING, CANNOT = Outcome.CLIENT_ERROR, Outcome.MODEL_MISSING, Outcome.UNSUPPORTED
BUSY, FAILED = Outcome.OVERLOADED, Outcome.SERVER_ERROR


def whole(status: int, document: object) -> AttemptEnd:
    return end_of_answer(status, [], document if isinstance(document, bytes) else orjson.dumps(document))


#: where it was seen, status (0: inside a 200), body, outcome, status and code that the client gets
TOO_LONG: list[tuple[str, int, object]] = [
    ("openai", 400, {"error": {"message": "x", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}}),
    ("openai, string", 400, {"error": {"message": "Invalid 'input': string too long.", "code": "string_above_max_length"}}),
    ("vllm", 400, {"error": {"message": "This model's maximum context length is 4096 tokens. However", "type": "BadRequestError", "code": 400}}),
    ("old vllm", 400, {"object": "error", "message": "This model's maximum context length is 10 tokens.", "type": "BadRequestError", "code": 400}),
    ("vllm, in band", 0, {"object": "error", "message": "maximum context length is 10", "type": "BadRequestError", "code": 400}),
    ("vllm, as a 500", 500, {"error": {"message": "ValueError: maximum context length is 10", "type": "InternalServerError"}}),
    ("sglang", 400, {"object": "error", "message": "The input (30007 tokens) is longer than the model's context length (4096 tokens)."}),
    ("sglang, limit", 400, {"message": "Input length (9 tokens) exceeds the maximum allowed length (8 tokens)."}),
    ("llama.cpp", 400, {"error": {"code": 400, "message": "request exceeds the available context size", "type": "exceed_context_size_error"}}),
    ("llama.cpp, in band", 0, {"error": {"code": 400, "message": "x", "type": "exceed_context_size_error", "n_ctx": 1}}),
    ("llama.cpp, embeddings", 500, {"error": {"code": 500, "message": "input (9 tokens) is too large to process. increase the physical batch size", "type": "server_error"}}),
    ("tgi", 422, {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 5000", "error_type": "validation"}),
    ("tgi, sum", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048", "error_type": "validation"}),
    ("ollama", 400, {"error": "the input length exceeds the context length"}),
    ("ollama, as a 500", 500, {"error": "input length exceeds maximum context length"}),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
    ("anthropic, sum", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "input length and `max_tokens` exceed context limit"}}),
    ("bedrock", 400, {"__type": "com.amazon#ValidationException", "message": "Input is too long for requested model."}),
    ("gemini", 400, [{"error": {"code": 400, "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).", "status": "INVALID_ARGUMENT"}}]),
    ("mistral", 400, {"object": "error", "message": "Prompt contains 9 tokens, too large for model with 8 maximum context length"}),
    ("xai", 400, {"code": "invalid", "error": "This model's maximum prompt length is 131072 but the request contains 9"}),
    ("groq", 413, {"error": {"message": "Please reduce the length of the messages or completion.", "code": "context_length_exceeded"}}),
    ("litellm", 400, {"error": {"message": "x", "type": "ContextWindowExceededError", "code": "400"}}),
    ("a plain text", 400, b"prompt is too long"),
    ("in band, a text", 0, "maximum context length is 8192 tokens"),
]  # fmt: skip

CASES: list[tuple[str, int, object, Outcome, int, str | None]] = [
    # models
    ("vllm", 404, {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}}, MISSING, 404, "model_not_found"),
    ("old vllm", 404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}, MISSING, 404, "model_not_found"),
    ("openai", 404, {"error": {"message": "The model 'x' does not exist or you do not have access to it.", "code": "model_not_found"}}, MISSING, 404, "model_not_found"),
    ("openai, 403", 403, {"error": {"message": "Project does not have access to model x", "code": "model_not_found"}}, MISSING, 404, "model_not_found"),
    ("ollama", 404, {"error": "model 'x' not found, try pulling it first"}, MISSING, 404, "model_not_found"),
    ("anthropic", 404, {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-9"}}, MISSING, 404, "model_not_found"),
    ("azure", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}, MISSING, 404, "model_not_found"),
    ("gemini", 404, {"error": {"code": 404, "message": "models/x is not found for API version v1beta", "status": "NOT_FOUND"}}, MISSING, 404, "model_not_found"),
    ("transformers", 400, {"detail": "Server is pinned to '/m'; requested 'x'."}, MISSING, 404, "model_not_found"),
    ("mistral", 400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model"}, MISSING, 404, "model_not_found"),
    ("deepseek", 400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}, MISSING, 404, "model_not_found"),
    ("sglang, lora", 400, {"object": "error", "message": "The following requested LoRA adapters are not loaded: a"}, MISSING, 404, "model_not_found"),
    ("in band", 0, {"error": {"message": "The model `x` does not exist", "code": 404}}, MISSING, 404, "model_not_found"),
    ("another thing", 404, {"error": {"message": "Response with id 'resp_1' not found.", "code": "not_found"}}, CLIENT, 404, "not_found"),
    # routes and abilities
    ("fastapi, no route", 404, {"detail": "Not Found"}, CANNOT, 404, None),
    ("llama.cpp, no route", 404, {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}, CANNOT, 404, None),
    ("an empty 404", 404, b"", CANNOT, 404, None),
    ("a page", 404, b"<html>nginx</html>", CANNOT, 404, None),
    ("fastapi, 405", 405, {"detail": "Method Not Allowed"}, CANNOT, 405, None),
    ("llama.cpp, image", 500, {"error": {"code": 500, "message": "image input is not supported - hint: mmproj", "type": "server_error"}}, CANNOT, 400, "unsupported_value"),
    ("llama.cpp, audio, in band", 0, {"error": {"code": 500, "message": "audio input is not supported", "type": "server_error"}}, CANNOT, 400, "unsupported_value"),
    ("llama.cpp, 501", 501, {"error": {"code": 501, "message": "This server does not support embeddings. Start it with `--embeddings`", "type": "not_supported_error"}}, CANNOT, 400, "unsupported_value"),
    ("llama.cpp, tools", 500, {"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}}, CANNOT, 400, "unsupported_value"),
    ("vllm, image", 400, {"error": {"message": "tiny is not a multimodal model", "type": "BadRequestError", "code": 400}}, CLIENT, 400, None),
    # not now
    ("anthropic", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, BUSY, 0, None),
    ("anthropic, in band", 0, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, BUSY, 0, None),
    ("a 529 without words", 529, b"", BUSY, 0, None),
    ("sglang, in band", 0, {"object": "error", "message": "The request queue is full.", "type": "SERVICE_UNAVAILABLE", "code": 503}, BUSY, 0, None),
    ("sglang, type", 0, {"object": "error", "message": "full", "type": "503"}, BUSY, 0, None),
    ("openai, in band", 0, {"error": {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}}, BUSY, 0, None),
    ("gemini, in band", 0, [{"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}}], BUSY, 0, None),
    ("bedrock", 400, {"__type": "ThrottlingException", "message": "Too many tokens, please wait."}, BUSY, 0, None),
    ("bedrock, 429", 429, {"message": "Too many tokens, please wait before trying again."}, BUSY, 0, None),
    ("tgi, in band", 0, {"error": "Model is overloaded", "error_type": "overloaded"}, BUSY, 0, None),
    ("llama.cpp, loading", 503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, BUSY, 0, None),
    ("ollama, in band", 0, "server busy, please try again.  maximum pending requests exceeded", BUSY, 0, None),
    ("too early", 425, b"", BUSY, 0, None),
    ("a full queue as a 500", 500, {"error": "queue is full"}, BUSY, 0, None),
    # the account, the key, failures
    ("openai, quota", 429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}}, FAILED, 0, None),
    ("payment", 402, {"error": {"message": "Insufficient Balance"}}, FAILED, 0, None),
    ("anthropic, billing", 400, {"type": "error", "error": {"type": "billing_error", "message": "Your credit balance is too low"}}, FAILED, 0, None),
    ("key", 401, {"error": "Unauthorized"}, FAILED, 0, None),
    ("key, in band", 0, {"error": {"message": "Incorrect API key", "type": "authentication_error"}}, FAILED, 0, None),
    ("tgi, generation", 424, {"error": "Request failed during generation", "error_type": "generation"}, FAILED, 0, None),
    ("a 499", 499, b"", FAILED, 0, None),
    ("vllm, dead", 500, {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}}, FAILED, 0, None),
    ("in band, dead", 0, {"error": {"message": "EngineCore encountered an issue.", "code": 500}}, FAILED, 0, None),
    ("in band, nothing", 0, {"error": {}}, FAILED, 0, None),
    ("go", 500, {"error": "rpc error: code = DeadlineExceeded desc = context deadline exceeded"}, FAILED, 0, None),
    ("go, in band", 0, {"error": "context canceled"}, FAILED, 0, None),
    ("a type that claims, beside a status", 500, {"error": {"message": "x", "type": "invalid_request_error"}}, FAILED, 0, None),
    # the client's
    ("openai, in band", 0, {"error": {"message": "x", "type": "invalid_request_error", "code": None}}, CLIENT, 400, None),
    ("anthropic, in band", 0, {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: at least one"}}, CLIENT, 400, None),
    ("anthropic, large", 413, {"type": "error", "error": {"type": "request_too_large", "message": "x"}}, CLIENT, 413, None),
    ("azure, filter", 400, {"error": {"code": "content_filter", "message": "x", "innererror": {}}}, CLIENT, 400, "content_filter"),
    ("fastapi", 422, {"detail": [{"loc": ["body", "n"], "msg": "must be 1", "type": "v"}]}, CLIENT, 422, None),
    ("conflict", 409, {"error": {"message": "x", "code": "conflict"}}, CLIENT, 409, "conflict"),
    ("in band, 400", 0, {"error": {"message": "too long", "code": 400}}, CLIENT, 400, None),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "status", "body"), TOO_LONG, ids=[case[0] for case in TOO_LONG])
def test_too_long_is_the_clients_in_every_form(seen: str, status: int, body: object) -> None:
    end = whole(status, body) if status else end_in_band(body)
    assert end.outcome is CLIENT
    assert end.objection is not None
    assert (end.objection.status, end.objection.code) == (400, "context_length_exceeded")
    if status in (400, 500) and not isinstance(body, bytes):
        assert end_in_band(body).outcome is CLIENT, "the same inside a 200"


@pytest.mark.parametrize(("seen", "status", "body", "outcome", "shown", "code"), CASES, ids=[c[0] for c in CASES])
def test_what_they_say_and_what_follows(
    seen: str, status: int, body: object, outcome: Outcome, shown: int, code: str | None
) -> None:
    end = whole(status, body) if status else end_in_band(body)
    assert end.outcome is outcome
    if shown:
        assert end.objection is not None
        assert (end.objection.status, end.objection.code) == (shown, code)
    else:
        assert end.objection is None, "what a backend says about itself is nothing for clients"


def test_every_status_has_a_verdict_and_only_the_clients_are_passed_on() -> None:
    for status in range(400, 600):
        end = whole(status, b"")
        assert end.outcome in (CLIENT, CANNOT, BUSY, FAILED), status
        assert (end.objection is not None) == (end.outcome in (CLIENT, CANNOT)), status
        if status >= 500:
            assert end.outcome is not CLIENT, status
    assert set(HUNDREDS) == {4, 5}
    assert all(STATUSES[status] != HUNDREDS[status // 100] for status in STATUSES), (
        "a row that says what its hundred says"
    )


def test_a_client_never_costs_a_backend_its_health() -> None:
    for outcome in (CLIENT, MISSING, CANNOT, BUSY, Outcome.OWN_SHORTAGE):
        assert CONSEQUENCES[outcome].on_health is OnHealth.NONE
    assert CONSEQUENCES[CLIENT].retry is Retry.NO


def test_words_have_one_meaning_each() -> None:
    assert not WORDS.keys() & KINDS.keys()


@pytest.mark.parametrize(
    ("one", "other"),
    [("BadRequestError", "bad_request"), ("Bad Request", "bad-request"), ("ThrottlingException", "throttling")],
)
def test_spellings_of_one_word(one: str, other: str) -> None:
    assert normal(one) == normal(other)


def test_every_verdict_of_a_certain_word_or_text_tells_what_the_client_gets() -> None:
    every: list[Verdict] = [*WORDS.values(), *KINDS.values(), *(message.verdict for message in MESSAGES)]
    for verdict in every:
        if verdict.outcome in (CLIENT, MISSING, CANNOT) and verdict is not verdicts.NO_ROUTE:
            assert 400 <= verdict.status < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "type", "code", "status", "detail", "param", "error_type", "x"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_document_is_read(document: object) -> None:
    said = read_document(document)
    assert said.number == 0 or 400 <= said.number <= 599
    end = end_in_band(document)
    if end.objection is not None:
        assert 400 <= end.objection.status < 500
        assert end.objection.message
        assert end.objection.code is None or isinstance(end.objection.code, str)


@given(st.binary(max_size=300), st.integers(400, 599), st.sampled_from([b"", b"gzip", b"deflate", b"br"]))
def test_any_body_is_read(body: bytes, status: int, encoding: bytes) -> None:
    end = end_of_answer(status, [(b"content-encoding", encoding)], body)
    assert end.code == "upstream_error"
    assert (end.objection is not None) == (end.outcome in (CLIENT, MISSING, CANNOT))


@given(st.integers(400, 599), st.text(max_size=80))
def test_a_word_that_is_certain_wins_over_any_status(status: int, message: str) -> None:
    for word in ("context_length_exceeded", "overloaded_error", "insufficient_quota", "model_not_found"):
        assert judge(status, Said(message, code=word)) is WORDS[normal(word)]


def test_an_error_that_was_compressed_unasked_is_read() -> None:
    body = gzip.compress(orjson.dumps({"error": {"message": "prompt is too long"}}))
    assert read_body(body, encoding=b"gzip").message == "prompt is too long"
    bomb = gzip.compress(b" " * 8_000_000)
    assert read_body(bomb, encoding=b"gzip").message == ""


def test_captured_errors_of_real_engines() -> None:
    """Of each capture with an error status: its verdict, and nothing of the engine's own in what is passed on."""
    found: dict[str, set[Outcome]] = {}
    for capture in captures.whole_answers():
        if capture.status < 400:
            continue
        end = end_of_answer(capture.status, list(capture.headers.items()), capture.body)
        case = capture.name.partition("/")[2]
        found.setdefault(case, set()).add(end.outcome)
        if end.objection is not None:
            text = f"{end.objection.message}{end.objection.more}"
            assert "site-packages" not in text
            assert "Traceback" not in text
    assert all(found[case] == {CLIENT} for case in found if "context_too_long" in case)
    assert all(found[case] == {BUSY} for case in found if "503" in case or "loading" in case)
    assert all(found[case] == {FAILED} for case in found if case.startswith(("killengine", "killworker")))
    assert found["err_bad_model_chat"] == {MISSING}
    assert found["err_image"] == {CLIENT, CANNOT}, "vLLM and SGLang say 400, llama.cpp 500"
