"""One after the other."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.params import Params
from router.core.policy.base import Policy, Ranking
from router.core.types import Lease, Request, Rng


class RoundRobin(Policy):
    """The candidate that was chosen longest ago: a turn stays fair while candidates come and go."""

    name = "round_robin"
    summary = "Each in turn, whatever its load or distance."
    source = "nginx and HAProxy default; vLLM production-stack roundrobin"
    observes = True

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._turn = 0
        self._last: dict[tuple[str, str], int] = {}

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        last, model = self._last, request.model
        costs = [float(last.get((model, b.name), 0)) for b in candidates]
        return Ranking(costs.index(min(costs)), costs, "longest without a turn", costs, _terms)

    def dispatched(self, lease: Lease, now_s: float) -> None:
        self._turn += 1
        self._last[lease.request.model, lease.backend] = self._turn


def _terms(detail: list[float], i: int) -> Terms:
    return (("last turn", detail[i]),)
