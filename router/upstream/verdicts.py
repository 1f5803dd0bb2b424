"""The table of errors: the meaning of each status, code, type and message of engines and providers. Data only.

``classify.judge`` reads it in this order: a word that is certain (``WORDS``), a message that is certain (``MESSAGES``),
the status (``STATUSES``, then its hundred), and at last, for errors without a status, a word for a kind (``KINDS``).
docs/errors.md explains the decisions.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from router.core.outcomes import Outcome


class Verdict(NamedTuple):
    """The meaning of an error.

    status   the status for the client, if no other backend answers; 0: the backend's own
    code     OpenAI's ``error.code`` for it, if there is one
    """

    outcome: Outcome
    status: int = 0
    code: str | None = None


#: the client's fault: the error is passed on, and no other backend is asked
CLIENT = Verdict(Outcome.CLIENT_ERROR)
BAD_REQUEST = Verdict(Outcome.CLIENT_ERROR, 400)
TOO_LONG = Verdict(Outcome.CLIENT_ERROR, 400, "context_length_exceeded")
TOO_LARGE = Verdict(Outcome.CLIENT_ERROR, 413)
NOT_FOUND = Verdict(Outcome.CLIENT_ERROR, 404)
FILTERED = Verdict(Outcome.CLIENT_ERROR, 400, "content_filter")
#: the backend was believed to serve the model: ask another one, and read this one's list of models again
NO_MODEL = Verdict(Outcome.MODEL_MISSING, 404, "model_not_found")
#: this backend cannot serve the request, another one may; if none can, it is the client's fault
CANNOT = Verdict(Outcome.UNSUPPORTED, 400, "unsupported_value")
NO_ROUTE = Verdict(Outcome.UNSUPPORTED)
#: the backend is overloaded: another may serve the request now
BUSY = Verdict(Outcome.OVERLOADED, 503)
LIMITED = Verdict(Outcome.OVERLOADED, 429)
#: the backend failed, or does not work for this router: its key there, its account, a proxy in between
FAILED = Verdict(Outcome.SERVER_ERROR)

#: status -> verdict, for each status that differs from the rest of its hundred
STATUSES: dict[int, Verdict] = {
    401: FAILED,  # our key there
    402: FAILED,  # our account there has nothing left
    403: FAILED,  # our key there
    405: NO_ROUTE,
    407: FAILED,  # a proxy wants credentials
    408: FAILED,  # it lost the request, which was sent in one piece
    421: FAILED,  # the address leads elsewhere
    424: FAILED,  # TGI: the model failed while it generated
    425: BUSY,  # too early
    426: FAILED,  # it wants another protocol
    429: LIMITED,
    444: FAILED,  # nginx closed without an answer
    498: LIMITED,  # Groq: no capacity of that tier
    499: FAILED,  # a proxy in between believes that we left
    501: CANNOT,
    503: BUSY,
    509: LIMITED,  # bandwidth
    529: BUSY,  # Anthropic, NVIDIA NIM, MiniMax: overloaded
}
HUNDREDS: dict[int, Verdict] = {4: CLIENT, 5: FAILED}


def normal(word: str) -> str:
    """The same text for BadRequestError, bad_request and "Bad Request"."""
    word = re.sub(r"[^a-z0-9]", "", word.lower())
    return re.sub(r"(error|exception)$", "", word) or word


def _table(*rows: tuple[Verdict, str]) -> dict[str, Verdict]:
    pairs = [(normal(word), verdict) for verdict, words in rows for word in words.split()]
    table = dict(pairs)
    contradicted = {word for word, verdict in pairs if table[word] != verdict}
    if contradicted:
        raise ValueError(f"two verdicts for {contradicted}")
    return table


#: codes and types whose meaning is certain, whatever the status
WORDS = _table(
    (TOO_LONG, "context_length_exceeded exceed_context_size_error string_above_max_length"),
    (TOO_LONG, "context_window_exceeded ContextWindowExceededError context_length_error max_context_length_exceeded"),
    (TOO_LONG, "prompt_too_long input_too_long context_too_long model_context_window_exceeded string_too_long"),
    (TOO_LONG, "max_tokens_exceeded token_limit_exceeded tokens_limit_reached context_overflow"),
    (TOO_LARGE, "request_too_large payload_too_large"),
    (FILTERED, "content_filter content_policy_violation ResponsibleAIPolicyViolation"),
    (BAD_REQUEST, "invalid_prompt unsupported_value unsupported_parameter invalid_image invalid_image_format"),
    (BAD_REQUEST, "image_too_large image_too_small image_parse_error invalid_base64_image invalid_image_url"),
    (BAD_REQUEST, "invalid_image_mode image_file_too_large unsupported_image_media_type empty_image_file"),
    (NO_MODEL, "model_not_found DeploymentNotFound model_not_loaded model_not_exist unknown_model no_such_model"),
    (CANNOT, "not_supported_error NotImplementedError UNIMPLEMENTED unsupported_operation"),
    (FAILED, "insufficient_quota insufficient_credits insufficient_balance billing_error billing_hard_limit_reached"),
    (FAILED, "billing_not_active credit_balance_too_low payment_required account_deactivated quota_exceeded_billing"),
    (LIMITED, "rate_limit_exceeded rate_limit_error RateLimitReached too_many_requests RESOURCE_EXHAUSTED"),
    (LIMITED, "ThrottlingException ServiceQuotaExceededException rate_limited RequestLimitExceeded"),
    (BUSY, "overloaded overloaded_error engine_overloaded server_overloaded slow_down SERVICE_UNAVAILABLE"),
    (BUSY, "unavailable_error UNAVAILABLE ServiceUnavailableException ModelNotReadyException server_busy"),
    (BUSY, "model_loading queue_full capacity_exceeded over_capacity unhealthy"),
)

#: codes and types that name a kind of error; they count only where no status decides
KINDS = _table(
    (BAD_REQUEST, "invalid_request_error BadRequestError ValidationException validation INVALID_ARGUMENT"),
    (BAD_REQUEST, "validation_error value_error invalid_value invalid_type missing_required_parameter invalid_request"),
    (BAD_REQUEST, "UnprocessableEntityError template_error tool_error invalid_json json_invalid out_of_range"),
    (
        BAD_REQUEST,
        "ValueError TypeError FAILED_PRECONDITION invalid_parameter invalid_input empty_input",
    ),
    (NOT_FOUND, "not_found_error NotFoundError NOT_FOUND ResourceNotFoundException"),
    (FAILED, "authentication_error invalid_api_key permission_error UNAUTHENTICATED PERMISSION_DENIED"),
    (FAILED, "AccessDeniedException unauthorized forbidden invalid_authentication authentication"),
    (FAILED, "server_error InternalServerError api_error internal_error INTERNAL InternalServerException"),
    (FAILED, "generation incomplete_generation ModelErrorException ModelTimeoutException timeout_error timeout"),
    (FAILED, "DEADLINE_EXCEEDED UNKNOWN ABORTED abort CANCELLED bad_gateway gateway_timeout upstream_error"),
)


class Message(NamedTuple):
    """A text whose meaning is certain beside one of these statuses; 0: without a status."""

    statuses: frozenset[int]
    pattern: re.Pattern[str]
    verdict: Verdict


def _message(statuses: tuple[int, ...] | range, verdict: Verdict, *patterns: str) -> Message:
    return Message(frozenset(statuses), re.compile("|".join(patterns), re.IGNORECASE | re.DOTALL), verdict)


#: Statuses under which an engine does not say whose fault it is.
_NO_CLAIM = (0, 500)
#: Limits and refusals of keys may speak of tokens, too.
_NO_LIMIT = tuple(status for status in (0, *range(400, 600)) if status not in (401, 402, 403, 429, 503, 529))
#: Only this much of a text is searched: engines begin with the reason and end with the client's own words.
MESSAGE_LENGTH_MAX = 400

MESSAGES: tuple[Message, ...] = (
    _message(
        _NO_LIMIT,
        TOO_LONG,
        r"maximum (?:context|prompt|input|sequence|model) length",  # OpenAI, vLLM, xAI, Mistral
        # SGLang, llama.cpp, Ollama, LM Studio; not Go's "context deadline exceeded"
        r"(?:exceed\w*|(?:long|larg|great)er than|beyond|over) .{0,60}?context[ _-](?:length|window|size|limit)",
        r"context[ _-](?:length|window|size|limit) .{0,30}?(?:exceed|overflow|too (?:long|small))",
        r"(?:prompt|input|context|request|message|token (?:length|count))s? (?:(?:is|are) )?too long",  # Anthropic
        r"`?inputs`? must have less than \d+ tokens|`?inputs`? tokens \+ `?max_new_tokens`? must be",  # TGI
        r"input (?:token count|length) .{0,40}?exceed",  # Gemini, SGLang, Anthropic
        r"exceed\w* .{0,40}?(?:max_model_len|max_seq_len|max_input_len|max_num_tokens|model token limit)",  # TensorRT
        r"input .{0,30}?is too large to process",  # llama.cpp, embeddings
        r"too many tokens",  # Cohere
        r"string too long\. expected",  # OpenAI
        r"first \d+ tokens when context",  # LM Studio
        r"reduce the length of the (?:messages|prompt|input)",
    ),
    _message(
        (0, 403, 404),
        NO_MODEL,
        r"\b(?:model|deployment|adapter|lora)s?\b.{0,300}?not (?:found|exist|available|loaded|registered)",
        r"\b(?:no such|unknown|invalid|could not find|cannot find|not a valid) (?:model|deployment|adapter|lora)\b",
        r"^model: \S+$",  # Anthropic
        r"^models/\S+ is not found",  # Gemini
    ),
    _message(
        (400, 422),
        NO_MODEL,
        r"^server is pinned to ",  # transformers serve
        r"^(?:invalid model\b|model not exist|no models? (?:is |are )?loaded)",  # Mistral, DeepSeek, LM Studio
        r"^the following requested lora adapters are not loaded",  # SGLang
    ),
    _message(
        (404,),
        NO_ROUTE,
        r"^\W*(?:404\W*)?(?:(?:file|page|path|route|endpoint|url) )?not found\W*$",  # FastAPI, llama.cpp, nginx
        r"^(?:invalid url|unknown (?:url|request url|endpoint|path)|no route|cannot post|the requested url)\b",
        r"^\W*$",
    ),
    _message(
        _NO_CLAIM,
        CANNOT,
        # llama.cpp
        r"\b(?:image|audio|video|vision|multimodal|file|tool)s?(?: inputs?| calls?| calling)? (?:is|are) not supported",
        r"not (?:yet )?support (?:image|audio|video|vision|multimodal|tool|embedding|chat|completion)",
        r"(?:model|server|engine) (?:does not|doesn't) support",
        r"is not a (?:multimodal|vision|chat|embedding|generative) model",  # vLLM
        r"only supports text",  # SGLang
        r"requires? --jinja|provide the mmproj|start it with `--",  # llama.cpp
    ),
    _message(
        _NO_CLAIM,
        BUSY,
        r"\boverloaded\b",
        r"\bqueue (?:is )?full\b",
        r"\btoo many (?:concurrent |pending )?requests\b",
        r"\b(?:server|engine|model|service) (?:is )?(?:currently |too )*busy\b",
        r"\b(?:at|over|out of) capacity\b",
        r"\bloading model\b|\bmodel .{0,100}?is (?:still |currently )?loading\b",  # llama.cpp, Hugging Face
        r"\brate limit\b",
        r"\bno available (?:workers?|servers?|slots?)\b",
    ),
)
