"""What the end of an attempt means: status codes and in-band errors to Outcomes. The only place that judges them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from router.core.outcomes import Outcome


@dataclass(slots=True)
class AttemptEnd:
    """How one attempt ended.

    code      error code for the client if nobody else can answer; None when the answer was delivered
    status    the backend's status, 0 if it gave none
    stale     the pooled connection was no good: closed under us before the backend saw the request, or what came on it
              was no beginning of an answer. Another connection decides, nobody is at fault yet
    unsent    there was no address to send it to
    died      the connection broke after the request was sent and before any answer
    body      the backend's error body, for a client error that is passed on
    """

    outcome: Outcome
    code: str | None = None
    status: int = 0
    detail: str = ""
    retry_after_s: float | None = None
    stale: bool = False
    died: bool = False
    unsent: bool = False
    body: bytes = b""
    content_type: bytes = b""


#: The answer was delivered whole. There is nothing more to say about it, so all share it.
DELIVERED = AttemptEnd(Outcome.OK)


def outcome_of_status(status: int) -> Outcome:
    """For a complete answer with this status.

    401 and 403 are the fault of our credentials there, not of the client; 408 and 429/503 say "not now".
    """
    if status < 300:
        return Outcome.OK
    if status in (429, 503):
        return Outcome.OVERLOADED
    if 400 <= status < 500 and status not in (401, 403, 407, 408):
        return Outcome.CLIENT_ERROR
    return Outcome.SERVER_ERROR


def status_of_error(error: dict[str, Any]) -> int:
    """The HTTP status an in-band error object stands for; engines put it into ``code`` as a number."""
    for field in ("code", "status", "status_code"):
        value = error.get(field)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return 500


def retry_after_s(headers: list[tuple[bytes, bytes]]) -> float | None:
    """``retry-after-ms`` or ``retry-after`` in seconds, bounded to 10 minutes; dates are not read."""
    found: float | None = None
    for name, value in headers:
        if name == b"retry-after-ms" and value.isdigit():
            return min(int(value) / 1000, 600.0)
        if name == b"retry-after" and value.isdigit():
            found = min(float(int(value)), 600.0)
    return found
