"""The answer to a request for which no candidate is left."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from router.core.backend import Backend
from router.core.candidates import Strike, may_yet_be_told, unfit
from router.core.decisions import Reject, RejectReason, Struck, Wait
from router.core.dormancy import is_off
from router.core.explain import Candidates
from router.core.health import State
from router.core.params import Params
from router.core.types import Request

if TYPE_CHECKING:
    from router.core.fleet import Fleet


def refuse(
    fleet: Fleet,
    request: Request,
    struck: Sequence[Strike],
    exclude: Collection[str],
    serving: Sequence[Backend] | None,
    now_s: float,
) -> Wait | Reject:
    """Wait if that can help, else say what is missing. One that was tried will not help.

    ``serving``: the backends of the model, None if nobody has it.
    """
    candidates, params = Candidates((), None, struck), fleet.params
    model = request.model
    if (hold_s := fleet.dormant.get(model)) is not None and _nothing_runs(request, serving):
        until_s = min(request.deadline_s, now_s + hold_s)
        return Wait(until_s, candidates, reason="nothing of this model runs: a backend has to be woken", wakes=True)
    if serving is None:
        if may_yet_be_told(fleet.backends.values(), params, now_s):
            detail = f"No backend is known to serve the model {model!r}, and some have not reported their models yet."
            return Reject(RejectReason.NO_BACKEND, detail, 1.0, candidates)
        return Reject(RejectReason.UNKNOWN_MODEL, f"No backend serves the model {model!r}.", None, candidates)
    reasons = dict(struck)
    fitting = [b for b in serving if unfit(b, request) is None]
    until_s = min(request.deadline_s, now_s + params.wait_max_s)
    untried = [b for b in fitting if b.name not in exclude] if exclude else fitting
    again_s = min(
        (b.capacity.not_before_s for b in untried if reasons[b.name] is Struck.NOT_BEFORE), default=float("inf")
    )
    busy = any(reasons[b.name] in (Struck.SATURATED, Struck.PROBATION) for b in untried)
    if busy or again_s <= until_s:
        return Wait(until_s, candidates, again_s)
    if request.pin_backend is not None and fitting:
        why = reasons[request.pin_backend].value
        detail = f"Only backend {request.pin_backend} keeps what this request continues, and it is {why}."
        return Reject(RejectReason.NO_BACKEND, detail, _retry_after_s(fitting, params, now_s), candidates)
    if len(fitting) < len(serving) and (not fitting or any(b.usable(now_s) for b in serving)):
        where = f"region {request.pin_region}" if request.pin_region is not None else "an allowed jurisdiction"
        reason = RejectReason.NO_BACKEND if request.residency is None else RejectReason.RESIDENCY
        detail = f"No healthy backend in {where} serves {model!r}."
        return Reject(reason, detail, _retry_after_s(fitting, params, now_s), candidates)
    detail = f"No healthy backend serves {model!r}."
    return Reject(RejectReason.NO_BACKEND, detail, _retry_after_s(fitting, params, now_s), candidates)


def _nothing_runs(request: Request, serving: Sequence[Backend] | None) -> bool:
    """No backend that may take ``request`` runs, and waking one would help: it is not that somebody has drained all."""
    fitting = [b for b in serving or () if unfit(b, request) is None and not b.draining]
    return not serving or (bool(fitting) and all(map(is_off, fitting)))


def _retry_after_s(fitting: Sequence[Backend], params: Params, now_s: float) -> float | None:
    """When it is worth to ask again; None: waiting will not help."""
    if not fitting:
        return None
    back_s = min(b.health.until_s if b.state is State.EJECTED else now_s for b in fitting)
    return min(max(1.0, back_s - now_s), params.retry_after_max_s)
