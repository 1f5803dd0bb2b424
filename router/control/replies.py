"""Answers of the admin API: JSON, and errors in the shape of OpenAI's."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from router.errors import CODES, RouterError

_JSON = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
#: Answers may hold what only operators should see.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def reply(document: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(document, option=_JSON), status=status, content_type="application/json", headers=_HEADERS
    )


def listing(entries: list[Any]) -> web.Response:
    return reply({"data": entries})


def failure(
    code: str,
    message: str | None = None,
    *,
    param: str | None = None,
    problems: list[str] | None = None,
    role_needed: str | None = None,
) -> web.Response:
    """The answer to a request that failed with one of ``errors.CODES``."""
    entry = CODES[code]
    error: dict[str, Any] = {"message": message or entry.summary, "type": entry.type, "param": param, "code": code}
    if problems is not None:
        error["problems"] = problems
    if role_needed is not None:
        error["role_needed"] = role_needed
    return reply({"error": error}, entry.status)


def router_failure(error: RouterError) -> web.Response:
    response = failure(error.code, error.detail, param=error.param)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return response
