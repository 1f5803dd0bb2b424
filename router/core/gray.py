"""Gray slowness: a backend that answers, passes its probes, and is far slower than it should be.

Compared is what the fits say of one and the same typical request, so neither load nor distance counts. A backend is
found gray when it is far above the median of its model's backends (by median absolute deviations, which a sick one
cannot stretch) and far above what is usual for itself: a smaller GPU is slow, not sick.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from router.core.backend import Backend, Lane
from router.core.health import State
from router.core.params import Params

#: found so often in a row before it is believed
_LOOKS = 2


def find_gray(serving: Iterable[Backend], model: str, params: Params, now_s: float) -> list[Backend]:
    """Those of a model's backends that were found gray for the second time in a row. Call it at regular intervals."""
    lanes = [
        (b, lane)
        for b in serving
        if b.state is not State.EJECTED
        and (lane := b.lanes.get(model)) is not None
        and lane.fit.samples >= params.gray_samples
    ]
    if len(lanes) < params.gray_backends:
        return []
    typical = tuple(median(column) for column in zip(*(lane.fit.typical for _, lane in lanes), strict=True))
    times_s = [_time_s(b, lane, typical, params, now_s) for b, lane in lanes]
    middle_s = median(times_s)
    spread_s = median(abs(time_s - middle_s) for time_s in times_s)
    most_s = middle_s + max(params.gray_floor_s, params.gray_mads * spread_s)
    return [b for (b, lane), time_s in zip(lanes, times_s, strict=True) if _gray_again(lane, time_s, most_s, params)]


def _time_s(b: Backend, lane: Lane, typical: tuple[float, ...], params: Params, now_s: float) -> float:
    """What a typical first token takes here, by what came and by what should have come."""
    late_s = b.late_s(now_s) if b.overdue(now_s) >= params.gray_overdue else 0.0
    return lane.fit.line.predict_s(*typical) + max(lane.fit.residual_s, late_s)


def _gray_again(lane: Lane, time_s: float, most_s: float, params: Params) -> bool:
    usual_s = time_s if lane.usual_s is None else lane.usual_s
    if time_s <= max(most_s, params.gray_factor * usual_s):
        lane.gray_marks = 0
        lane.usual_s = usual_s + params.gray_usual_weight * (time_s - usual_s)
        return False
    lane.gray_marks = (lane.gray_marks + 1) % _LOOKS
    return lane.gray_marks == 0
