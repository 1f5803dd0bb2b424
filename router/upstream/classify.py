"""Judges how attempts ended: error answers and in-band errors become Outcomes here and nowhere else."""

from __future__ import annotations

import re
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
    """A backend's complaint about a request, ready for the client: it tells nothing about the backend."""

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
    stale      the pooled connection could not be used: it was closed before the backend saw the request, or its bytes
               did not begin an answer. Nobody is blamed; the request goes out again on another connection
    unsent     there was no address to send it to
    died       the backend may have died of the request: its connection broke, or it says that its engine is dead
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
        """An error answer blames the request, but has no word that proves it."""
        return bool(self.body) and self.objection is not None and self.objection.code is None


#: The answer was delivered completely. All such attempts share this object.
DELIVERED = AttemptEnd(Outcome.OK)

#: Success statuses that no request asks for: an empty answer, and a part of one.
ODD_SUCCESSES = frozenset({205, 206})

#: vLLM: its API server lives on for a moment, and answers for the engine that died.
_ENGINE_DEAD = re.compile(r"EngineCore encountered an issue|EngineDeadError", re.IGNORECASE)

#: Outcomes after which the client gets the backend's own words if nobody else can answer.
_PASSED_ON = frozenset({Outcome.CLIENT_ERROR, Outcome.MODEL_MISSING, Outcome.UNSUPPORTED})


def judge(status: int, said: Said) -> Verdict:
    """Judge an error. ``status``: that of the answer, or the one that an error inside a 200 names; 0: none."""
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
    """The end of an attempt that got an error status. ``body``: the part that was kept."""
    if status in ODD_SUCCESSES or 300 <= status < 400:
        what = "a redirect" if 300 <= status < 400 and status != 304 else f"status {status}, which makes no sense here"
        return AttemptEnd(Outcome.SERVER_ERROR, "upstream_protocol", status, f"answered with {what}")
    encoding = next((value for name, value in headers if name == b"content-encoding"), b"")
    end = _end(status, headers, read_body(body, encoding=encoding))
    end.body = body
    return end


def end_in_band(error: object) -> AttemptEnd:
    """The end of an attempt with an error inside a 200, before the client got any of it. ``error``: the error object,
    or the document around it."""
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
    end.died = verdict.outcome is Outcome.SERVER_ERROR and _ENGINE_DEAD.search(said.message[:200]) is not None
    if verdict.outcome in _PASSED_ON:
        if shown != status:
            said.type = ""  # that header belonged to the other status
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
