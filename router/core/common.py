"""Shared by backends: means that stand in for the unknown, and the toll of a model's backends, see ``cost``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from router.core.backend import Backend
from router.core.cost import kv_pressure_s
from router.core.health import State
from router.core.params import Params


class Neutral:
    """What stands in for the unknown: the mean of those that are known. Neither empty nor full."""

    __slots__ = ("others_inflight", "pressure_s", "rtt_s")

    def __init__(self, rtt_s: float) -> None:
        self.rtt_s = rtt_s
        self.others_inflight = 0.0
        self.pressure_s = 0.0

    def learn(self, backends: Collection[Backend], params: Params, now_s: float) -> None:
        """Take the mean of those that are known now."""
        rtts = [b.rtt.mean_s for b in backends if b.rtt.mean_s is not None]
        self.rtt_s = fmean(rtts) if rtts else params.rtt_unknown_s
        loads = [(b, load) for b in backends if (load := b.fresh_load(now_s)) is not None]
        self.others_inflight = fmean(b.scraped_inflight for b, _ in loads) if loads else 0.0
        pressures = [kv_pressure_s(load.kv_ratio, params) for _, load in loads if load.kv_ratio is not None]
        self.pressure_s = fmean(pressures) if pressures else 0.0


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
