"""core/whole.py and core/forms.py: a 200 is no success until it holds what its route promises."""

from __future__ import annotations

import orjson
import pytest

from router.core.forms import First, Form, first_of, form_of
from router.core.types import Usage
from router.core.whole import PROMISED, empty_is_failure, judge, looks_good
from tests.support import captures

CHAT, TEXT = b"/v1/chat/completions", b"/v1/completions"
RESPONSES, MESSAGES, EMBEDDINGS = b"/v1/responses", b"/v1/messages", b"/v1/embeddings"
OTHER = b"/v1/rerank"

GOOD = [
    (CHAT, '{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'),
    (CHAT, '{"choices":[{"index":0,"message":{"content":""},"finish_reason":"stop"}],"error":null}'),
    (CHAT, '{"choices":[{"index":0,"message":{"content":"x"}}]}'),
    (CHAT, '{"choices":[{"message":{"tool_calls":[{"id":"1"}]},"finish_reason":"TOOL_CALLS"}]}'),
    (CHAT, '{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1.5}}'),
    (TEXT, '{"choices":[{"text":"x","finish_reason":null},{"text":"","finish_reason":"length"}]}'),
    (RESPONSES, '{"output":[],"status":"completed","error":null,"incomplete_details":null}'),
    (RESPONSES, '{"output":[{}],"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}'),
    (RESPONSES, '{"output":[],"status":"queued"}'),
    (MESSAGES, '{"content":[{"type":"text","text":"x"}],"stop_reason":"end_turn"}'),
    (MESSAGES, '{"content":[],"stop_reason":"end_turn"}'),
    (MESSAGES, '{"content":[{}],"stop_reason":null}'),
    (EMBEDDINGS, '{"data":[{"embedding":[1,2]}]}'),
    (EMBEDDINGS, '{"data":[]}'),
    # as Python and JavaScript write JSON, and clients read it
    (CHAT, '{"choices":[{"message":{"content":"x"},"logprobs":[NaN,-Infinity],"finish_reason":"stop"}]}'),
    (CHAT, r'{"choices":[{"message":{"content":"x\ud83d"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}'),
    (CHAT, '\ufeff{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}'),
    (EMBEDDINGS, '{"data":[{"embedding":[NaN,2]}]}'),
    (OTHER, "[]"),
    (OTHER, "{}"),
    (OTHER, '{"results":[]}'),
    (OTHER, "5"),
    (OTHER, "plain text"),
]
BAD = [
    (CHAT, '{"choices":[]}'),
    (CHAT, '{"choices":null}'),
    (CHAT, '{"choices":[{"message":{"role":"assistant","content":null},"finish_reason":null}]}'),
    (CHAT, '{"choices":[{"message":{"content":"half"},"finish_reason":"abort"}]}'),
    (CHAT, '{"choices":[{"finish_reason":"stop"},{"message":{"content":"x"},"finish_reason":"error"}]}'),
    (CHAT, '{"choices":[{"finish_reason":"stop"}],"error":{"message":"boom"}}'),
    (CHAT, '{"choices":[{"message":{"content":""},"finish_reason":"stop","error":{"message":"boom"}}]}'),
    (CHAT, '{"choices":[{"finish_reason":"stop","error":"boom"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'),
    (CHAT, '{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}}'),
    (CHAT, '{"choices":[{"message":{"content":"x"},"logprob":nan,"finish_reason":"stop"}]}'),
    (CHAT, '{"id":"c1","object":"chat.completion","usage":{"prompt_tokens":1,"completion_tokens":0}}'),
    (CHAT, "ok"),
    (CHAT, "null"),
    (CHAT, "<html><body>502</body></html>"),
    (TEXT, '{"choices":[{"text":"","finish_reason":""}]}'),
    (RESPONSES, '{"status":"failed","output":[],"error":{"code":"server_error","message":"boom"}}'),
    (RESPONSES, '{"status":"failed","output":[]}'),
    (RESPONSES, '{"status":"incomplete","output":[{}],"incomplete_details":{"reason":"abort"}}'),
    (RESPONSES, '{"choices":[{"finish_reason":"stop"}]}'),
    (MESSAGES, '{"content":[{"type":"text","text":"x"}],"stop_reason":"abort"}'),
    (MESSAGES, '{"content":[],"stop_reason":null}'),
    (MESSAGES, '{"type":"error","error":{"type":"api_error","message":"boom"}}'),
    (EMBEDDINGS, '{"object":"list"}'),
    (OTHER, "<!DOCTYPE html><html>"),
    *(
        (path, error)
        for path in (*PROMISED, OTHER)
        for error in (
            '{"error":{"message":"boom"}}',
            '{"error":"boom"}',
            '{"detail":"boom"}',
            '{"object":"error","message":"boom","code":500}',
            '{"message":"boom","code":500}',
        )
    ),
]


@pytest.mark.parametrize(("path", "body"), GOOD)
def test_what_the_route_promises_is_good(path: bytes, body: str) -> None:
    assert judge(path, body.encode())[1] is None


@pytest.mark.parametrize(("path", "body"), BAD)
def test_anything_else_is_a_failure(path: bytes, body: str) -> None:
    _, error = judge(path, body.encode())
    assert error is not None
    assert error["message"]


def test_the_status_that_an_error_names_is_kept() -> None:
    _, error = judge(CHAT, b'{"object":"error","message":"too long","code":400}')
    assert error is not None
    assert error["code"] == 400


def path_of(name: str) -> bytes:
    kinds = {"completion": TEXT, "responses": RESPONSES, "messages": MESSAGES, "embeddings": EMBEDDINGS}
    return next(
        (path for word, path in kinds.items() if name.rpartition("/")[2].startswith((word, f"err_{word}"))), CHAT
    )


WHOLE = [
    c
    for c in captures.whole_answers()
    if c.status == 200
    and c.framed
    and not any(word in c.name for word in ("tokenize", "count", "rerank", "models", "get_"))
]


@pytest.mark.parametrize("capture", WHOLE, ids=[c.name for c in WHOLE])
def test_real_answers_are_good(capture: captures.Capture) -> None:
    assert judge(path_of(capture.name), capture.body)[1] is None


@pytest.mark.parametrize(
    ("path", "usage", "expected"),
    [
        (CHAT, {"prompt_tokens": 5, "completion_tokens": 2}, Usage(5, 2, None, True)),
        (
            CHAT,
            {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(5, 2, 4, True),
        ),
        (CHAT, {"prompt_tokens": 5.0, "completion_tokens": 2.0}, Usage(5, 2, None, True)),
        (EMBEDDINGS, {"prompt_tokens": 5, "total_tokens": 5}, Usage(5, 0, None, True)),
        (
            MESSAGES,
            {
                "input_tokens": 50,
                "cache_read_input_tokens": 3400,
                "cache_creation_input_tokens": 56,
                "output_tokens": 7,
            },
            Usage(3506, 7, 3400, True),
        ),
        (
            RESPONSES,
            {"input_tokens": 50, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 7},
            Usage(50, 7, 40, True),
        ),
        (CHAT, None, None),
    ],
)
def test_the_usage_counts_the_whole_prompt(path: bytes, usage: object, expected: Usage | None) -> None:
    bodies = {CHAT: [{"finish_reason": "stop"}], MESSAGES: [{}], RESPONSES: [{}], EMBEDDINGS: [{}]}
    body = orjson.dumps({PROMISED[path]: bodies[path], "usage": usage})
    assert judge(path, body) == (expected, None)


@pytest.mark.parametrize("path", [*PROMISED, OTHER])
def test_a_success_with_nothing_in_it_is_a_failure_where_something_is_promised(path: bytes) -> None:
    assert empty_is_failure(path, 200, text=False)
    assert empty_is_failure(path, 204, text=False) is (path in PROMISED)


def test_an_answer_too_long_to_be_held_is_known_by_its_beginning() -> None:
    assert looks_good(EMBEDDINGS, b' {"object":"list","data":[{"embedding":[0.1,')
    assert not looks_good(EMBEDDINGS, b"<html>" + b"x" * 100)
    assert not looks_good(CHAT, b'{"padding":"' + b"x" * 100)


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        (b"text/event-stream", Form.EVENTS),
        (b"Text/Event-Stream; charset=utf-8", Form.EVENTS),
        (b"application/json", Form.JSON),
        (b"application/problem+json", Form.JSON),
        (b"", Form.JSON),
        (b"application/x-ndjson", Form.LINES),
        (b"application/jsonl", Form.LINES),
        (b"text/plain; charset=utf-8", Form.TEXT),
        (b"text/html", Form.TEXT),
        (b"audio/pcm", Form.OPAQUE),
        (b"application/octet-stream", Form.OPAQUE),
    ],
)
def test_the_form_is_read_from_the_media_type(content_type: bytes, form: Form) -> None:
    assert form_of(content_type) is form


def test_what_is_compressed_cannot_be_read() -> None:
    assert form_of(b"application/json", b"gzip") is Form.OPAQUE
    assert form_of(b"application/json", b"identity") is Form.JSON


H, P, E = First.HOLD, First.PASS, First.EVENTS


@pytest.mark.parametrize(
    ("form", "begin", "streams", "promised", "first"),
    [
        (Form.OPAQUE, b"\x00", False, False, P),
        (Form.JSON, b'{"a":1}\n', False, False, H),
        (Form.JSON, b'{"a":1}\n{"a"', True, False, P),  # lines that do not say so
        (Form.JSON, b'{\n "a"', True, False, H),
        (Form.JSON, b'{"a":1}\n', True, True, H),
        (Form.LINES, b'{"a":', True, False, H),
        (Form.LINES, b'{"a":1}\n', True, True, P),
        (Form.TEXT, b"data: {}\n\n", True, True, E),
        (Form.JSON, b'event: x\ndata: {"a', True, True, E),
        (Form.TEXT, b"da", True, True, H),
        (Form.TEXT, b"data: {}\n\n", False, False, P),  # a text of a transcription
        (Form.TEXT, b"WEBVTT", False, False, P),
        (Form.TEXT, b"<html", True, False, H),
        (Form.TEXT, b"<!DOCTYPE html><html>", True, False, H),
        (Form.TEXT, b"plain", True, True, H),
    ],
)
def test_when_the_client_gets_the_first_bytes(
    form: Form, begin: bytes, streams: bool, promised: bool, first: First
) -> None:
    assert first_of(form, begin, streams=streams, promised=promised) is first


@pytest.mark.parametrize("form", [Form.LINES, Form.TEXT])
def test_an_error_in_the_first_line_is_no_success(form: Form) -> None:
    found = first_of(form, b'{"error":"boom"}\n', streams=True, promised=False)
    assert found == {"message": "boom"}
