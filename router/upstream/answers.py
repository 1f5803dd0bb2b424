"""Judges an answer with status 200 by its content, and says how the attempt ended."""

from __future__ import annotations

from router.core import whole
from router.core.forms import Form
from router.core.leniency import is_json
from router.core.outcomes import Outcome
from router.core.types import Usage
from router.upstream.classify import DELIVERED, AttemptEnd, end_in_band


def no_answer(status: int, detail: str) -> AttemptEnd:
    """The answer is not of the kind that was asked for."""
    return AttemptEnd(Outcome.SERVER_ERROR, "upstream_error", status, detail=detail)


def end_of_whole(path: bytes, status: int, form: Form, body: bytes, *, framed: bool) -> tuple[AttemptEnd, Usage | None]:
    """The end of an answer that was held back until complete. ``framed``: its length or last chunk says that it is."""
    if not framed and not is_json(body):
        detail = "cut its answer"
        return AttemptEnd(Outcome.UNREACHABLE, "upstream_unreachable", detail=detail, died=True), None
    if not body:
        if whole.empty_is_failure(path, status, text=form is Form.TEXT):
            return no_answer(status, "gave an empty answer"), None
        return DELIVERED, None
    usage, error = whole.judge(path, body)
    return (DELIVERED, usage) if error is None else (end_in_band(error), None)
