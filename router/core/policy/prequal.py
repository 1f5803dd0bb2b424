"""Google's Prequal: hot-cold lexicographic choice by requests in flight and latency."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.params import Params
from router.core.policy.base import Policy, Ranking, lowest
from router.core.types import Lease, Request, Rng

#: the quantile of requests in flight that parts cold from hot: 2 ** -0.25
HOT_QUANTILE = 0.84
#: recent (requests in flight, latency) pairs kept per backend; the latency is the median of the nearest ``NEAR``
SAMPLES = 32
NEAR = 5


class Prequal(Policy):
    """Cold backends (requests in flight not above the quantile): the lowest latency. None cold: the fewest requests.

    The latency of a backend is the median of recent first tokens at about its present requests in flight. For some
    dozens of backends all are compared; the original samples a pool of 16 probes, which pays above a hundred.
    """

    name = "prequal"
    summary = "Among backends below the 84 % quantile of requests in flight, the lowest latency at that load."
    source = "Prequal: Load is not what you should balance, NSDI 2024 (arXiv 2312.10172)"
    observes = True

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._samples: dict[str, deque[tuple[float, float]]] = {}

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        loads = [b.inflight + b.others_inflight for b in candidates]
        latencies = [self._latency_s(b.name, load) for b, load in zip(candidates, loads, strict=True)]
        hot = sorted(loads)[min(int(HOT_QUANTILE * len(loads)), len(loads) - 1)]
        slowest = max(latencies)
        costs = [latency if load <= hot else slowest + load for load, latency in zip(loads, latencies, strict=True)]
        return Ranking(lowest(costs, rng), costs, "lowest latency among the cold", (loads, latencies), _terms)

    def _latency_s(self, backend: str, load: float) -> float:
        samples = self._samples.get(backend)
        if not samples:
            return 0.0
        near = sorted(samples, key=lambda sample: abs(sample[0] - load))[:NEAR]
        return median(latency for _, latency in near)

    def first_token(self, lease: Lease, now_s: float) -> None:
        load = lease.ahead.requests if lease.ahead is not None else 0.0
        samples = self._samples.setdefault(lease.backend, deque(maxlen=SAMPLES))
        samples.append((load, now_s - lease.started_s))


def _terms(detail: tuple[list[float], list[float]], i: int) -> Terms:
    loads, latencies = detail
    return (("requests", loads[i]), ("latency", latencies[i]))
