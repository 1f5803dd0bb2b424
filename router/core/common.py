"""The toll of a model's backends: how many come later, and how busy it is for them, see ``cost``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from router.core.backend import Backend
from router.core.health import State
from router.core.params import Params


def charge_tolls(serving: Mapping[str, Sequence[Backend]], params: Params) -> None:
    """The same at all backends of a model: those who come later go where the queue is short by then, so the rate here
    and now says little."""
    for model, backends in serving.items():
        lanes = [
            (b, lane) for b in backends if b.state is not State.EJECTED and (lane := b.lanes.get(model)) is not None
        ]
        if not lanes:
            continue
        demands = [b.demand(lane.fit.line) for b, lane in lanes]
        utilisation = min(fmean([work for _, work in demands]), params.toll_utilisation_max)
        toll = params.toll_ratio * fmean([per_s for per_s, _ in demands]) / (1.0 - utilisation)
        queue_s = fmean([lane.price[3][0] for _, lane in lanes])
        for _, lane in lanes:
            lane.toll, lane.shared_queue_s = toll, queue_s
