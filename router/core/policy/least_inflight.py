"""The fewest requests there."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.policy.base import Policy, Ranking, lowest
from router.core.types import Request, Rng


class LeastInflight(Policy):
    """Counts our own requests exactly and adds what peers and scrapes show beyond them."""

    name = "least_inflight"
    summary = "Fewest requests in flight, ours and those of others."
    source = "least outstanding requests: nginx least_conn, Envoy LEAST_REQUEST"

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        costs = [b.inflight + b.others_inflight for b in candidates]
        return Ranking(lowest(costs, rng), costs, "fewest in flight", costs, _terms)


def _terms(detail: list[float], i: int) -> Terms:
    return (("requests", detail[i]),)
