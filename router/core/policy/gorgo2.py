"""GORGO, second version: the same three terms, with weights that an evolution strategy found."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy.base import Policy, Ranking, lowest
from router.core.types import Lease, Request, Rng

#: weights after the tuning window, with p95 of the first token as the objective
RTT_WEIGHT = 0.39
PREFILL_WEIGHT = 1.88
LOAD_WEIGHT = 6.38
#: seconds per uncached token, and per token that is queued or held in the KV cache
PREFILL_S = 0.07e-3
LOAD_S = 0.06e-3


class Gorgo2(Policy):
    """score = 0.39 rtt + 1.88 * 0.07 ms * uncached tokens + 6.38 * 0.06 ms * (queued tokens + used KV tokens).

    This is gorgo-static: the weights are those of the paper's tuning window and stay as they are. Queued are all prompt
    tokens of requests without a first token, cached or not; the KV tokens come from the scrape, if it tells the size.
    """

    name = "gorgo2"
    summary = "Round trip, uncached prefill and load, weighted by what an evolution strategy found."
    source = "GORGO v2, arXiv 2602.11688v2 (2026-06), gorgo-static with the weights learned for p95"
    observes = True

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._queued: dict[str, int] = {}
        self._waiting: set[Lease] = set()

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        parts: list[tuple[float, float, float]] = []
        for b in candidates:
            matched = b.prefix.match(request.prefix_blocks) * request.tokens_per_block
            uncached = max(request.prompt_tokens - matched, 0.0)
            load = self._queued.get(b.name, 0) + _kv_tokens(b, now_s)
            parts.append((RTT_WEIGHT * b.rtt_s, PREFILL_WEIGHT * PREFILL_S * uncached, LOAD_WEIGHT * LOAD_S * load))
        costs = [sum(part) for part in parts]
        return Ranking(lowest(costs, rng), costs, "lowest score", parts, _terms)

    def dispatched(self, lease: Lease, now_s: float) -> None:
        self._waiting.add(lease)
        self._queued[lease.backend] = self._queued.get(lease.backend, 0) + lease.prompt_tokens

    def first_token(self, lease: Lease, now_s: float) -> None:
        if lease in self._waiting:
            self._waiting.remove(lease)
            self._queued[lease.backend] -= lease.prompt_tokens

    def ended(self, lease: Lease, outcome: Outcome, now_s: float) -> None:
        self.first_token(lease, now_s)


def _kv_tokens(b: Backend, now_s: float) -> float:
    load = b.others.fresh_load(now_s)
    if load is None or load.kv_ratio is None or load.kv_capacity_tokens is None:
        return 0.0
    return load.kv_ratio * load.kv_capacity_tokens


def _terms(detail: list[tuple[float, float, float]], i: int) -> Terms:
    rtt_s, prefill_s, load_s = detail[i]
    return (("rtt", rtt_s), ("prefill", prefill_s), ("load", load_s))
