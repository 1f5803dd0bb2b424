"""Whether a whole answer is what its route promises. A 200 with anything else is a failure of the engine."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from router.core.endings import FINISHED, as_error, error_in, failed_finish, is_finish
from router.core.leniency import loads
from router.core.types import Usage
from router.core.usage import COUNT_MAX, read_usage, usage_at_end

#: The list that an answer of these routes must hold.
PROMISED = {
    b"/v1/chat/completions": "choices",
    b"/v1/completions": "choices",
    b"/v1/responses": "output",
    b"/v1/messages": "content",
    b"/v1/embeddings": "data",
    b"/v1/images/generations": "data",
    b"/v1/images/edits": "data",
    b"/v1/moderations": "results",
}
#: Their text answers hold nothing when nobody speaks.
_MAY_BE_EMPTY = frozenset({b"/v1/audio/transcriptions", b"/v1/audio/translations"})
_FAILED = frozenset({"failed", "cancelled"})

_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Count = 0
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None
    error: None = None


class _Chat(msgspec.Struct, gc=False):
    """The shape of a good chat completion. Anything else is read in full."""

    choices: list[_Choice]
    usage: _Usage | None = None
    error: None = None


class _Member(msgspec.Struct, gc=False):
    """The other answers in so far as they can be long: what is good in them is passed over, not read."""

    output: list[msgspec.Raw] | None = None
    content: list[msgspec.Raw] | None = None
    data: list[msgspec.Raw] | None = None
    results: list[msgspec.Raw] | None = None
    error: None = None
    status: str | None = None
    stop_reason: str | None = None
    incomplete_details: msgspec.Raw | None = None


_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_member = msgspec.json.Decoder(_Member).decode


#: The tokens that the answer reports, and its error; a good answer has no error.
Verdict = tuple[Usage | None, dict[str, Any] | None]


def judge(path: bytes, body: bytes) -> Verdict:
    """Of a whole 200 in JSON, or in what its engine passes off as such."""
    promised = PROMISED.get(path)
    if promised == "choices":
        usage = _usage_of_good_chat(body)
        return (usage, None) if usage is not None else _judge_closely(promised, body)
    if promised is not None:
        try:
            found = _decode_member(body)
        except (msgspec.MsgspecError, RecursionError):
            return _judge_closely(promised, body)
        odd = found.status in _FAILED or found.incomplete_details is not None
        if getattr(found, promised) and not odd and is_finish(found.stop_reason) is not False:
            return usage_at_end(body), None
    return _judge_closely(promised, body)


def _usage_of_good_chat(body: bytes) -> Usage | None:
    """The usage of an answer as nearly all are: choices that have finished, and a usage. None if in doubt."""
    try:
        answer = _decode_chat(body)
    except (msgspec.MsgspecError, RecursionError):
        return None
    usage, choices = answer.usage, answer.choices
    if usage is None or usage.completion_tokens is None or not choices:
        return None
    for choice in choices:
        if choice.finish_reason not in FINISHED:
            return None
    details = usage.prompt_tokens_details
    cached = details.cached_tokens if details is not None else None
    return Usage(usage.prompt_tokens, usage.completion_tokens, cached, True)


def looks_good(path: bytes, begin: bytes) -> bool:
    """Whether the beginning of an answer that is too long to be held may be that of a good one."""
    promised = PROMISED.get(path)
    return promised is None or (begin[:64].lstrip()[:1] == b"{" and b'"%b"' % promised.encode() in begin)


def empty_is_failure(path: bytes, status: int, *, text: bool) -> bool:
    """Whether a success with nothing in it is a failure. ``text``: its content type is plain text."""
    if status != 200:  # 204 and its kind
        return path in PROMISED
    return not (text and path in _MAY_BE_EMPTY)


def is_page(body: bytes) -> bool:
    """A web page: the welcome of a proxy, a login, an error page; never an answer of a model."""
    begin = body[:512].lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower()
    return begin.startswith((b"<!doctype html", b"<html", b"<head"))


_GOOD: Verdict = None, None


def _judge_closely(promised: str | None, body: bytes) -> Verdict:
    try:
        message = loads(body)
    except ValueError:
        if promised is not None or is_page(body):
            return _failure("is not JSON" if not is_page(body) else "is a web page")
        return _GOOD
    if not isinstance(message, dict):
        return _GOOD if promised is None else _failure(f"lacks `{promised}`")
    return read_usage(message.get("usage")), _error_of(promised, message)


def _error_of(promised: str | None, message: dict[str, Any]) -> dict[str, Any] | None:
    found = message.get(promised) if promised is not None else None
    if not isinstance(found, list):
        error = error_in(message)
        if error is None and promised is not None:
            return _failure(f"lacks `{promised}`")[1]
        return error
    if message.get("error"):
        return as_error(message["error"])
    if message.get("status") in _FAILED:
        return {"message": f"The engine says that the answer is {message['status']}.", "type": "server_error"}
    details = message.get("incomplete_details")
    endings = [message.get("stop_reason"), details.get("reason") if isinstance(details, dict) else None]
    if promised == "choices":
        if not found:
            return _failure("holds no choice")[1]
        choices = [choice if isinstance(choice, dict) else {} for choice in found]
        if (error := next((choice["error"] for choice in choices if choice.get("error")), None)) is not None:
            return as_error(error)
        endings = [choice.get("finish_reason", "") for choice in choices]
        if not all(is_finish(end) or _says(choice) for end, choice in zip(endings, found, strict=True)):
            bad = next((end for end in endings if is_finish(end) is False), None)
            return failed_finish(bad) if bad is not None else _failure("holds nothing")[1]
    elif promised == "content" and not found and not is_finish(message.get("stop_reason")):
        return _failure("holds nothing")[1]
    bad = next((end for end in endings if is_finish(end) is False), None)
    return failed_finish(bad) if bad is not None else None


def _says(choice: object) -> bool:
    """Whether a choice without a finish reason holds anything."""
    if not isinstance(choice, dict):
        return False
    message = choice.get("message")
    return bool(choice.get("text")) or (
        isinstance(message, dict) and any(value for name, value in message.items() if name != "role")
    )


def _failure(what: str) -> Verdict:
    return None, {"message": f"The engine's answer {what}.", "type": "server_error", "code": 500}
