"""What a 200 means once its content is known: to the end of the attempt."""

from __future__ import annotations

from router.core import whole
from router.core.forms import Form
from router.core.leniency import is_json
from router.core.outcomes import Outcome
from router.core.types import Usage
from router.upstream.classify import DELIVERED, AttemptEnd, end_in_band


def no_answer(status: int, detail: str) -> AttemptEnd:
    """What came is not what was asked for."""
    return AttemptEnd(Outcome.SERVER_ERROR, "upstream_error", status, detail=detail)


def end_of_whole(path: bytes, status: int, form: Form, body: bytes, *, framed: bool) -> tuple[AttemptEnd, Usage | None]:
    """Of an answer that was held to its end. ``framed``: its length or its last chunk says that it is whole."""
    if not framed and not is_json(body):
        detail = "cut its answer"
        return AttemptEnd(Outcome.UNREACHABLE, "upstream_unreachable", detail=detail, died=True), None
    if not body:
        if whole.empty_is_failure(path, status, text=form is Form.TEXT):
            return no_answer(status, "gave an empty answer"), None
        return DELIVERED, None
    usage, error = whole.judge(path, body)
    return (DELIVERED, usage) if error is None else (end_in_band(error), None)
