"""Errors as the client's API writes them: one place renders an error for the dialect of its route, whole or in band.

OpenAI's shape everywhere but for Anthropic's clients: they read ``{"type": "error", "error": …}``, and inside a stream
an ``event: error``. Theirs is ``/v1/messages``; both have ``/v1/models``, where their ``anthropic-version`` tells them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import orjson

from router.errors import RouterError
from router.gateway.exchange import PassedOn


class Dialect(Enum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


_MESSAGES, _MODELS = b"/v1/messages", b"/v1/models"
_NO_HEADERS: dict[bytes, bytes] = {}

#: Anthropic's ``error.type`` for a status; the rest is invalid_request_error below 500, and api_error from there on.
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def dialect_of(path: bytes, headers: Mapping[bytes, bytes] = _NO_HEADERS) -> Dialect:
    """Which API a request belongs to. ``path`` is in its one spelling; ``headers``: as far as they are known."""
    if _begins(path, _MESSAGES) or (_begins(path, _MODELS) and b"anthropic-version" in headers):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI


def _begins(path: bytes, route: bytes) -> bool:
    return path.startswith(route) and path[len(route) : len(route) + 1] in (b"", b"/")


def error_body(error: RouterError, dialect: Dialect, request_id: bytes) -> bytes:
    """The body of an answer that is an error: ours, or a backend's that is passed on."""
    return orjson.dumps(_document(error, dialect, request_id))


def error_event(error: RouterError, dialect: Dialect, request_id: bytes) -> bytes:
    """The in-band end of a stream that cannot be continued."""
    event = b"event: error\n" if dialect is Dialect.ANTHROPIC else b""
    return b"%bdata: %b\n\n" % (event, error_body(error, dialect, request_id))


def _document(error: RouterError, dialect: Dialect, request_id: bytes) -> dict[str, object]:
    fields = _fields(error)
    if dialect is Dialect.OPENAI:
        return {"error": fields}
    fields["type"] = _ANTHROPIC_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    if fields["param"] is None:
        del fields["param"]
    return {"type": "error", "error": fields, "request_id": request_id.decode("latin-1")}


def _fields(error: RouterError) -> dict[str, object]:
    """OpenAI's four, each of its type: ``code`` is a word or nothing, whatever the engine has there."""
    if not isinstance(error, PassedOn):
        return {"message": error.detail, "type": error.entry.type, "param": error.param, "code": error.code}
    objection = error.objection
    return {
        **dict(objection.more),
        "message": objection.message,
        "type": objection.type or "invalid_request_error",
        "param": objection.param,
        "code": objection.code,
    }
