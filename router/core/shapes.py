"""The shapes of whole answers, member by member, of the engines whose answers are put together from streams."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WholeShape:
    """The whole answers of one kind of engine, of one API.

    top, choice, message, usage, details   their members in order; those of ``nulls`` are null where nothing was said
    """

    top: tuple[str, ...]
    choice: tuple[str, ...]
    message: tuple[str, ...] = ()
    usage: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    nulls: frozenset[str] = frozenset()
    #: a last message of the assistant is repeated in the whole answer, and not in the stream
    repeats_begun: bool = False


@dataclass(frozen=True, slots=True)
class Assembled:
    """A row: of a kind of engine."""

    chat: WholeShape
    completions: WholeShape
    #: whether requests are sent so unless the configuration says otherwise
    by_default: bool


_LLAMACPP_TOP = ("choices", "created", "model", "system_fingerprint", "object", "usage", "id", "timings")
_VLLM_TOP = ("id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage")
_VLLM_TRANSFER = ("kv_transfer_params", "ec_transfer_params", "metrics")
_VLLM_PROMPT = ("prompt_logprobs", "prompt_token_ids", "prompt_text")
_VLLM_MESSAGE = ("refusal", "annotations", "audio", "function_call", "reasoning")
_VLLM_USAGE = (
    "prompt_tokens",
    "total_tokens",
    "completion_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
)
_VLLM_DETAILS = ("cached_tokens", "created_cache_tokens", "multimodal_tokens")
_VLLM_CHOICE = ("logprobs", "finish_reason", "stop_reason", "token_ids")
_VLLM_NULLS = frozenset(
    (*_VLLM_TOP[5:7], *_VLLM_PROMPT, *_VLLM_TRANSFER, *_VLLM_MESSAGE, *_VLLM_USAGE[3:], *_VLLM_DETAILS[1:])
) | {"logprobs", "stop_reason", "token_ids", "routed_experts"}

#: llama.cpp stops at once when a client of a stream leaves, and not when one of a whole answer does.
LLAMACPP = Assembled(
    WholeShape(
        _LLAMACPP_TOP,
        ("finish_reason", "index", "message"),
        ("role", "reasoning_content", "content", "tool_calls"),
        repeats_begun=True,
    ),
    WholeShape(_LLAMACPP_TOP, ("text", "index", "logprobs", "finish_reason"), nulls=frozenset({"logprobs"})),
    by_default=True,
)
#: As vLLM 0.32 answers; other versions have other members that are null. It notices by itself that a client has left,
#: and a stream costs more on both sides.
VLLM = Assembled(
    WholeShape(
        (*_VLLM_TOP, *_VLLM_PROMPT, *_VLLM_TRANSFER),
        ("index", "message", *_VLLM_CHOICE, "routed_experts"),
        ("role", "content", *_VLLM_MESSAGE),
        _VLLM_USAGE,
        _VLLM_DETAILS,
        _VLLM_NULLS,
    ),
    WholeShape(
        (*_VLLM_TOP, *_VLLM_TRANSFER),
        ("index", "text", *_VLLM_CHOICE, "prompt_logprobs", "prompt_token_ids", "routed_experts"),
        (),
        _VLLM_USAGE,
        _VLLM_DETAILS,
        _VLLM_NULLS,
    ),
    by_default=False,
)
