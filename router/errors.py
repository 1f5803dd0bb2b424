"""Every error a client or operator can meet: one class, one table.

The core returns values; the shell raises RouterError; ``gateway/responses.py`` alone turns one into HTTP.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from router.words import plural


class Blame(Enum):
    CLIENT = "client"
    CAPACITY = "capacity"
    UPSTREAM = "upstream"
    ROUTER = "router"


class ErrorCode(NamedTuple):
    status: int
    blame: Blame
    type: str  # OpenAI's ``error.type``
    summary: str


#: code -> what it means. docs/errors.md is this table with examples; a test holds the two together.
CODES: dict[str, ErrorCode] = {
    "invalid_request": ErrorCode(400, Blame.CLIENT, "invalid_request_error", "The request is malformed."),
    "unauthorized": ErrorCode(401, Blame.CLIENT, "authentication_error", "No valid API key."),
    "forbidden": ErrorCode(403, Blame.CLIENT, "permission_error", "The key may not do this."),
    "not_found": ErrorCode(404, Blame.CLIENT, "invalid_request_error", "There is no such path."),
    "response_not_found": ErrorCode(404, Blame.CLIENT, "invalid_request_error", "There is no such response."),
    "previous_response_not_found": ErrorCode(
        404, Blame.CLIENT, "invalid_request_error", "What the request continues is not there."
    ),
    "unknown_model": ErrorCode(404, Blame.CLIENT, "invalid_request_error", "No backend serves this model."),
    "method_not_allowed": ErrorCode(405, Blame.CLIENT, "invalid_request_error", "The path has no such method."),
    "request_timeout": ErrorCode(408, Blame.CLIENT, "invalid_request_error", "The request did not arrive in time."),
    "body_too_large": ErrorCode(413, Blame.CLIENT, "invalid_request_error", "The body is over the limit."),
    "target_too_long": ErrorCode(414, Blame.CLIENT, "invalid_request_error", "The request target is over the limit."),
    "unsupported_encoding": ErrorCode(415, Blame.CLIENT, "invalid_request_error", "The body is compressed."),
    "invalid_config": ErrorCode(
        422, Blame.CLIENT, "invalid_request_error", "The configuration was refused; the one before stays in force."
    ),
    "too_many_attempts": ErrorCode(429, Blame.CLIENT, "rate_limit_error", "Too many wrong tokens; wait a moment."),
    "headers_too_large": ErrorCode(431, Blame.CLIENT, "invalid_request_error", "The head is over the limit."),
    "client_gone": ErrorCode(499, Blame.CLIENT, "client_gone", "The client left; in logs only."),
    "quota_exhausted": ErrorCode(429, Blame.CAPACITY, "rate_limit_error", "A limit is used up."),
    "admission_full": ErrorCode(429, Blame.CAPACITY, "rate_limit_error", "The router's queue is full."),
    "wait_expired": ErrorCode(429, Blame.CAPACITY, "rate_limit_error", "No place became free in time."),
    "no_backend": ErrorCode(503, Blame.CAPACITY, "server_error", "No healthy backend serves this model."),
    "residency_unsatisfiable": ErrorCode(
        503, Blame.CAPACITY, "server_error", "No healthy backend in an allowed jurisdiction."
    ),
    "upstream_unreachable": ErrorCode(502, Blame.UPSTREAM, "server_error", "The backend could not be reached."),
    "upstream_protocol": ErrorCode(502, Blame.UPSTREAM, "server_error", "The backend did not speak HTTP."),
    "upstream_error": ErrorCode(502, Blame.UPSTREAM, "server_error", "The backend failed."),
    "connect_timeout": ErrorCode(504, Blame.UPSTREAM, "server_error", "The backend did not accept in time."),
    "first_token_timeout": ErrorCode(504, Blame.UPSTREAM, "server_error", "No first token in time."),
    "stream_interrupted": ErrorCode(502, Blame.UPSTREAM, "server_error", "The stream broke; sent in band."),
    "store_unavailable": ErrorCode(503, Blame.ROUTER, "server_error", "The shared store is away."),
    "identity_unavailable": ErrorCode(503, Blame.ROUTER, "server_error", "The keys of the JWTs' issuer are not known."),
    "router_exhausted": ErrorCode(503, Blame.ROUTER, "server_error", "This router is out of descriptors or ports."),
    "shutting_down": ErrorCode(503, Blame.ROUTER, "server_error", "This router is stopping."),
    "no_worker": ErrorCode(503, Blame.ROUTER, "server_error", "No worker serves yet; they are being started."),
    "internal": ErrorCode(500, Blame.ROUTER, "server_error", "A fault of the router; see its log."),
}


class RouterError(Exception):
    """A request that ends with an error of ours.

    ``detail`` is for the client and must hold no secret, path or address. ``should_retry`` is
    OpenAI's ``x-should-retry``: None leaves it to the client's own rule.
    """

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        retry_after_s: float | None = None,
        param: str | None = None,
        should_retry: bool | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.code = code
        self.entry = CODES[code]
        self.detail = detail or self.entry.summary
        self.retry_after_s = retry_after_s
        self.param = param
        self.should_retry = should_retry
        self.headers = headers
        super().__init__(f"{code}: {self.detail}")

    @property
    def status(self) -> int:
        return self.entry.status

    @property
    def blame(self) -> Blame:
        return self.entry.blame


class ConfigError(Exception):
    """regions.toml is wrong. ``problems`` holds all of them, each with its place."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__(f"{source}: {plural(len(problems), 'problem')}\n" + "\n".join(f"  {p}" for p in problems))
