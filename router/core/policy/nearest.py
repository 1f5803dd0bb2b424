"""The shortest way: the backend with the lowest round trip."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.policy.base import Policy, Ranking, lowest
from router.core.types import Request, Rng


class Nearest(Policy):
    """Ignores load altogether: the baseline that shows what load awareness is worth."""

    name = "nearest"
    summary = "Lowest network round trip, whatever the load there."
    source = "latency-based DNS routing, e.g. Amazon Route 53"

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        costs = [b.rtt_s for b in candidates]
        return Ranking(lowest(costs, rng), costs, "lowest round trip", costs, _terms)


def _terms(detail: list[float], i: int) -> Terms:
    return (("rtt", detail[i]),)
