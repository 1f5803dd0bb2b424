"""How engines say that an answer is finished, and how they say that it failed. One table of words, one of shapes.

A status of 200 says nothing: engines report their own death, a full queue or a bad request inside it.
"""

from __future__ import annotations

from typing import Any

import orjson

#: The reasons that end a good answer, in lower case. Every other word is a failure of the engine: vLLM and SGLang say
#: ``abort`` when they are stopped, vLLM ``error``, DeepSeek ``insufficient_system_resource``, OpenRouter ``error``.
FINISHED = frozenset(
    {
        # OpenAI, and after it vLLM, SGLang, llama.cpp, Ollama
        "stop",
        "length",
        "tool_calls",
        "function_call",
        "content_filter",
        # vLLM: it stopped a model that repeats itself
        "repetition",
        # TGI, and the native words of llama.cpp
        "eos_token",
        "stop_sequence",
        "eos",
        "word",
        "limit",
        # Anthropic's messages
        "end_turn",
        "max_tokens",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
        "compaction",
        # OpenAI's responses
        "max_output_tokens",
        # Mistral, Cohere, Gemini
        "model_length",
        "complete",
        "safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
    }
)
#: Words in the place of a reason that mean "not yet".
_NOT_YET = frozenset({"", "null", "none"})
#: The members of an error in FastAPI's shape, or of problem+json (RFC 9457).
_DETAIL_MEMBERS = frozenset({"detail", "status", "code", "type", "title", "instance", "message"})
_STATUS_MEMBERS = ("code", "status", "status_code")
_TEXT_BYTES_MAX = 2000


def is_finish(word: object) -> bool | None:
    """Whether this finish reason ends the answer: True if well, False if by a failure, None if it goes on."""
    if isinstance(word, dict):  # SGLang's own API: {"type": "stop", "matched": …}
        word = word.get("type")
    if not isinstance(word, str):
        return None
    if word in FINISHED:
        return True
    word = word.strip().lower()
    if word in FINISHED:
        return True
    return None if word in _NOT_YET else False


def failed_finish(word: object) -> dict[str, Any]:
    """The error that a bad finish reason stands for."""
    return {"message": f"The engine ended the answer with {str(word)[:64]!r}.", "type": "server_error", "code": 500}


def error_in(message: dict[str, Any]) -> dict[str, Any] | None:
    """The error that an engine's JSON object holds, None if it is none. The object has nothing of a good answer.

    ``{"error": {…}}``   vLLM, llama.cpp, OpenAI, Anthropic
    ``{"error": "…"}``   TGI, Ollama; the other members tell more
    ``{"object": "error", "message": …}`` or ``{"type": "error", …}`` flat: SGLang, older vLLM, OpenAI's responses
    ``{"message": …, "code": 500}``   flat without a name
    ``{"detail": …}``    FastAPI
    """
    error = message.get("error")
    if error:
        return error if isinstance(error, dict) else as_error(error) | _statuses_of(message)
    if message.get("object") == "error" or message.get("type") == "error":
        return message
    text = message.get("message")
    if isinstance(text, str) and (_is_bad_status(message) or "error" in str(message.get("type")).lower()):
        return message
    if message.get("detail") and message.keys() <= _DETAIL_MEMBERS:
        return as_error(message["detail"]) | _statuses_of(message)
    return None


def as_error(value: object) -> dict[str, Any]:
    """An error object around whatever an engine gave in its place."""
    if isinstance(value, dict):
        return error_in(value) or value
    if not isinstance(value, str):
        try:
            value = orjson.dumps(value).decode()
        except (TypeError, orjson.JSONEncodeError):
            value = str(value)
    return {"message": value[:_TEXT_BYTES_MAX]}


def _statuses_of(message: dict[str, Any]) -> dict[str, Any]:
    found = {name: message[name] for name in _STATUS_MEMBERS if message.get(name) is not None}
    kind = message.get("error_type") or message.get("type")
    return found | {"type": kind} if isinstance(kind, str) else found


def _is_bad_status(message: dict[str, Any]) -> bool:
    return any(isinstance(code := message.get(name), int) and 400 <= code <= 599 for name in _STATUS_MEMBERS)
