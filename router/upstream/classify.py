"""What the end of an attempt means: error answers and in-band errors to Outcomes. The only place that judges them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router import clock
from router.core.outcomes import Outcome
from router.upstream import verdicts
from router.upstream.cleanse import clean, clean_text
from router.upstream.retry_after import retry_after_s
from router.upstream.said import Said, read_body, read_document
from router.upstream.verdicts import HUNDREDS, KINDS, MESSAGE_LENGTH_MAX, MESSAGES, STATUSES, WORDS, Verdict, normal


@dataclass(frozen=True, slots=True)
class Objection:
    """What a backend finds wrong with a request, ready for the client: nothing in it is about the backend itself."""

    status: int
    message: str
    type: str = ""
    code: str | None = None
    param: str | None = None
    more: tuple[tuple[str, Any], ...] = ()


@dataclass(slots=True)
class AttemptEnd:
    """How one attempt ended.

    code       error code for the client if nobody else can answer; None when the answer was delivered
    status     the backend's status, 0 if it gave none
    stale      the pooled connection was no good: closed under us before the backend saw the request, or what came on it
               was no beginning of an answer. Another connection decides, nobody is at fault yet
    unsent     there was no address to send it to
    died       the connection broke after the request was sent and before any answer
    objection  what is passed on when the request was at fault, or nobody can serve it
    refused    the error came inside an answer that had begun, and is about the request
    body       of an error answer, as it came: not for clients
    """

    outcome: Outcome
    code: str | None = None
    status: int = 0
    detail: str = ""
    retry_after_s: float | None = None
    stale: bool = False
    died: bool = False
    unsent: bool = False
    objection: Objection | None = None
    refused: bool = False
    body: bytes = b""

    @property
    def unexplained(self) -> bool:
        """An error answer that finds fault with the request, without a word that is certain."""
        return bool(self.body) and self.objection is not None and self.objection.code is None


#: The answer was delivered whole. There is nothing more to say about it, so all share it.
DELIVERED = AttemptEnd(Outcome.OK)

#: Successes that no request of ours asks for: an answer with nothing in it, and a part of one.
ODD_SUCCESSES = frozenset({205, 206})

#: Outcomes that end with the backend's own words if nobody else can answer.
_PASSED_ON = frozenset({Outcome.CLIENT_ERROR, Outcome.MODEL_MISSING, Outcome.UNSUPPORTED})


def judge(status: int, said: Said) -> Verdict:
    """What an error means. ``status``: of the answer, or what the error inside a 200 names; 0: neither."""
    for word in (said.code, said.type):
        verdict = WORDS.get(normal(word)) if word else None
        if verdict is not None:
            return verdict
    text = said.message[:MESSAGE_LENGTH_MAX]
    for message in MESSAGES:
        if status in message.statuses and message.pattern.search(text):
            return message.verdict
    if status:
        if status == 404 and said.param == "model":
            return verdicts.NO_MODEL
        return STATUSES.get(status) or HUNDREDS.get(status // 100, verdicts.FAILED)
    for word in (said.code, said.type):
        verdict = KINDS.get(normal(word)) if word else None
        if verdict is not None:
            return verdict
    return verdicts.FAILED


def end_of_answer(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> AttemptEnd:
    """An answer whose status is no success. ``body``: as much of it as was kept."""
    if status in ODD_SUCCESSES or 300 <= status < 400:
        what = "a redirect" if 300 <= status < 400 and status != 304 else f"status {status}, which makes no sense here"
        return AttemptEnd(Outcome.SERVER_ERROR, "upstream_protocol", status, f"answered with {what}")
    encoding = next((value for name, value in headers if name == b"content-encoding"), b"")
    end = _end(status, headers, read_body(body, encoding=encoding))
    end.body = body
    return end


def end_in_band(error: object) -> AttemptEnd:
    """An error inside a 200, before anything of it was passed on. ``error``: the error object, or what holds it."""
    said = read_document(error)
    return _end(said.number, (), said)


def _end(status: int, headers: Sequence[tuple[bytes, bytes]], said: Said) -> AttemptEnd:
    verdict = judge(status, said)
    shown = verdict.status or status
    met = status or shown or 500
    wait_s = None
    if verdict.outcome is Outcome.OVERLOADED:
        wait_s = retry_after_s(headers, said.whole, said.message, clock.wall_s())
    end = AttemptEnd(verdict.outcome, "upstream_error", met, f"failed with status {met}", wait_s)
    if verdict.outcome in _PASSED_ON:
        if shown != status:
            said.type = ""  # it belonged to the other status
        end.objection = _objection(shown, verdict, said)
    return end


def _objection(status: int, verdict: Verdict, said: Said) -> Objection:
    return Objection(
        status if 400 <= status <= 499 else 400,
        clean_text(said.message) or f"The backend answered with status {status}.",
        clean_text(said.type),
        verdict.code or clean_text(said.code) or None,
        clean_text(said.param) if said.param else None,
        tuple(clean(said.more).items()),
    )
