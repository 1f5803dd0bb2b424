"""Shared by all backends: the means that stand in for the unknown, what engines of a model have in common, tolls."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from router.core.cost import kv_pressure_s
from router.core.decay import kept
from router.core.health import State
from router.core.learn.backlog import common_speed
from router.core.learn.first_token import Line, common_line, prior_line
from router.core.learn.service import common_pace, common_tokens
from router.core.params import Params

if TYPE_CHECKING:
    from router.core.backend import Backend

#: the backends that serve a model, by model
Serving = Mapping[str, Sequence["Backend"]]


class Neutral:
    """Stands in for the unknown: the mean of those that are known. Neither empty nor full."""

    __slots__ = ("others_inflight", "pressure_s", "rtt_s")

    def __init__(self, rtt_s: float) -> None:
        self.rtt_s = rtt_s
        self.others_inflight = 0.0
        self.pressure_s = 0.0

    def learn(self, backends: Collection[Backend], params: Params, now_s: float) -> None:
        """Take the mean of those that are known now."""
        rtts = [b.rtt.mean_s for b in backends if b.rtt.mean_s is not None]
        self.rtt_s = fmean(rtts) if rtts else params.rtt_unknown_s
        loads = [(b, load) for b in backends if (load := b.others.fresh_load(now_s)) is not None]
        self.others_inflight = fmean(b.others.scraped_inflight for b, _ in loads) if loads else 0.0
        pressures = [kv_pressure_s(load.kv_ratio, params) for _, load in loads if load.kv_ratio is not None]
        self.pressure_s = fmean(pressures) if pressures else 0.0


class Common:
    """Whatever the backends of a fleet have in common. Brought up to date every ``solve_s``, not per request."""

    __slots__ = ("_lines", "_params", "_prior", "_solved_s", "neutral", "next_s")

    def __init__(self, params: Params) -> None:
        self._params = params
        self._prior = prior_line(params)
        self._lines: dict[str, Line] = {}
        self._solved_s = float("-inf")
        #: when ``solve`` is due
        self.next_s = float("-inf")
        self.neutral = Neutral(params.rtt_unknown_s)

    def line(self, model: str) -> Line:
        """The first guess for a backend of ``model`` that nothing is known of."""
        return self._lines.get(model, self._prior)

    def solve(
        self, serving: Serving, backends: Collection[Backend], configured: Collection[Backend], now_s: float
    ) -> None:
        """Bring every fit, the means and the tolls up to date. ``configured``: those of ``backends`` to take means of.

        The first guess for a model is what its backends have in common, once some know it.
        """
        params = self._params
        passed_s = now_s - self._solved_s if self._solved_s > float("-inf") else 0.0
        self._solved_s, self.next_s = now_s, now_s + params.solve_s
        for model, members in serving.items():
            self._lines[model] = _solve_model(model, members, self._prior, params, now_s)
        services = [b.service for b in backends]
        pace, tokens = common_pace(services, params), common_tokens(services, params)
        for service in services:
            service.solve(pace, tokens, now_s)
        self.neutral.learn(configured, params, now_s)
        charge_tolls(serving, params)
        keep_chance, keep_residual = kept(passed_s, params.failure_memory_s), kept(passed_s, params.residual_memory_s)
        for b in backends:
            b.reputation.fade(keep_chance)
            for lane in b.lanes.values():
                lane.fit.fade(keep_residual)


def _solve_model(model: str, members: Sequence[Backend], prior: Line, params: Params, now_s: float) -> Line:
    fits = [lane.fit for b in members if (lane := b.lanes.get(model)) is not None]
    common = common_line(fits, prior, params)
    for fit in fits:
        fit.solve(common, now_s)
    speed = common_speed([b.backlog.fade(now_s) for b in members], params)
    for b in members:
        b.backlog.settle(speed)
    return common


def charge_tolls(serving: Serving, params: Params) -> None:
    """How many requests come later, and how busy it is for them, see ``cost``.

    The same at all backends of a model: those who come later go where the queue is short by then, so the rate here and
    now says little.
    """
    for model, backends in serving.items():
        lanes = [
            (b, lane) for b in backends if b.state is not State.EJECTED and (lane := b.lanes.get(model)) is not None
        ]
        if not lanes:
            continue
        demands = [b.service.demand(lane.fit.line, b.others_inflight) for b, lane in lanes]
        utilisation = min(fmean([work for _, work in demands]), params.toll_utilisation_max)
        toll = params.toll_ratio * fmean([per_s for per_s, _ in demands]) / (1.0 - utilisation)
        queue_s = fmean([lane.ahead.queue_s for _, lane in lanes])
        for _, lane in lanes:
            lane.charge(toll, queue_s)
