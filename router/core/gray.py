"""Gray slowness: a backend that answers, passes its probes, and is far slower than it should be.

Compared is what one and the same typical request takes: its first token by the fits, so neither load nor distance
counts; or what first tokens really took where they waited for others; and where answers come in one piece, so that
nobody sees a first token, what they take on average. The latter two count against a backend only while it is sent
about as much as those that are quick: a queue is not its fault.

A backend is found gray when it is far above the median of its model's backends (by median absolute deviations, which a
sick one cannot stretch) and either far above what is usual for itself, since a smaller GPU is slow and not sick, or so
far above the median that no smaller GPU explains it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

from router.core.backend import Backend
from router.core.health import State
from router.core.lane import Habit, Lane
from router.core.params import Params

_Lanes = list[tuple[Backend, Lane]]


def find_gray(serving: Iterable[Backend], model: str, params: Params, now_s: float) -> list[Backend]:
    """Those of a model's backends that were found gray for the second time in a row. Call it at regular intervals."""
    lanes = [(b, lane) for b in serving if b.state is not State.EJECTED and (lane := b.lanes.get(model)) is not None]
    gray = _slow_first_tokens(lanes, params, now_s)
    gray += [b for b in _slow_answers(lanes, params, now_s) if b not in gray]
    return gray


def _slow_first_tokens(lanes: _Lanes, params: Params, now_s: float) -> list[Backend]:
    since_s = now_s - params.gray_interval_s
    fitted = [lane for _, lane in lanes if lane.fit.samples >= params.gray_samples]
    lanes = [
        (b, lane)
        for b, lane in lanes
        if lane in fitted or lane.queued.known(params.gray_samples, since_s) or _overdue(b, params, now_s)
    ]
    if not fitted or len(lanes) < params.gray_backends:
        return []
    typical = tuple(median(column) for column in zip(*(lane.fit.typical for lane in fitted), strict=True))
    fitted_s = [_first_token_s(b, lane, typical, params, now_s) for b, lane in lanes]
    queued_s = [lane.queued.mean_s if lane.queued.known(params.gray_samples, since_s) else 0.0 for _, lane in lanes]
    seen_s = [max(pair) for pair in zip(fitted_s, queued_s, strict=True)]
    excused = _asked_too_much(lanes, seen_s, params)
    times_s = [own if b in excused else seen for (b, _), own, seen in zip(lanes, fitted_s, seen_s, strict=True)]
    return _outliers(lanes, times_s, lambda lane: lane.first_tokens, params)


def _overdue(b: Backend, params: Params, now_s: float) -> bool:
    """Whether several first tokens should have come long ago."""
    return b.prompts.overdue(now_s - params.gray_floor_s, b.health.last_token_s) >= params.gray_overdue


def _first_token_s(b: Backend, lane: Lane, typical: tuple[float, ...], params: Params, now_s: float) -> float:
    """The time of a typical first token here, judged by those that came and those that are overdue."""
    late_s = b.prompts.late_s(now_s, b.health.last_token_s) if _overdue(b, params, now_s) else 0.0
    return lane.fit.line.predict_s(*typical) + max(lane.fit.residual_s, late_s)


def _slow_answers(lanes: _Lanes, params: Params, now_s: float) -> list[Backend]:
    lanes = [(b, lane) for b, lane in lanes if lane.whole.known(params.gray_samples, now_s - params.fit_memory_s)]
    if len(lanes) < params.gray_backends:
        return []
    times_s = [lane.whole.mean_s for _, lane in lanes]
    excused = _asked_too_much(lanes, times_s, params)
    return [b for b in _outliers(lanes, times_s, lambda lane: lane.wholes, params) if b not in excused]


def _asked_too_much(lanes: _Lanes, times_s: list[float], params: Params) -> set[Backend]:
    """Those that are sent far more than any that is quick."""
    middle_s = median(times_s)
    quick = [b for (b, _), time_s in zip(lanes, times_s, strict=True) if time_s <= middle_s]
    most = params.gray_share_factor * max(b.service.asked_tokens_per_s for b in quick)
    return {b for b, _ in lanes if b.service.asked_tokens_per_s > most}


def _outliers(lanes: _Lanes, times_s: list[float], habit_of: Callable[[Lane], Habit], params: Params) -> list[Backend]:
    middle_s = median(times_s)
    spread_s = median(abs(time_s - middle_s) for time_s in times_s)
    most_s = middle_s + max(params.gray_floor_s, params.gray_mads * spread_s)
    sick_s = max(most_s, params.gray_siblings_factor * middle_s)
    return [
        b
        for (b, lane), time_s in zip(lanes, times_s, strict=True)
        if habit_of(lane).judge(time_s, most_s, sick_s, params)
    ]
