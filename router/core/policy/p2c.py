"""The better of two random ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.policy.base import Policy, Ranking, draw_two, lowest
from router.core.types import Request, Rng


class PowerOfTwo(Policy):
    """Two distinct candidates are drawn; the one with fewer requests in flight is taken. The others cost infinity."""

    name = "p2c"
    summary = "Draw two at random, take the one with fewer requests in flight."
    source = "Mitzenmacher, The power of two choices (2001); Envoy LEAST_REQUEST with choice_count 2"

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        costs = [inf] * len(candidates)
        for i in draw_two(len(candidates), rng):
            costs[i] = candidates[i].inflight + candidates[i].others_inflight
        return Ranking(lowest(costs, rng), costs, "fewer in flight of two", costs, _terms)


def _terms(detail: list[float], i: int) -> Terms:
    return () if detail[i] == inf else (("requests", detail[i]),)
