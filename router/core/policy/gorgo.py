"""GORGO: network plus queue plus uncached prefill, at a fixed time per token."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy.base import Policy, Ranking, lowest
from router.core.policy.token_counts import TokenCounts
from router.core.types import Lease, Request, Rng

#: seconds per prompt token, measured offline and the same everywhere
TOKEN_S = 0.094e-3
#: what a token of a running request counts against a queued one
RUNNING_FACTOR = 1.0


class Gorgo(Policy):
    """cost = (queued + running * q + prompt - matched) tokens * c + round trip."""

    name = "gorgo"
    summary = "Round trip plus queued, running and uncached tokens at 0.094 ms each; nothing is learned."
    source = "GORGO, arXiv 2602.11688 (c = 0.094 ms per token, q = 1, RTT EWMA)"
    observes = True

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._counts = TokenCounts()

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        queued, running = self._counts.queued, self._counts.running
        parts: list[tuple[float, float, float, float]] = []
        for b in candidates:
            matched = b.prefix.match(request.prefix_blocks) * request.tokens_per_block
            prefill_s = max(request.prompt_tokens - matched, 0.0) * TOKEN_S
            queued_s = queued.get(b.name, 0) * TOKEN_S
            running_s = running.get(b.name, 0) * TOKEN_S * RUNNING_FACTOR
            parts.append((b.rtt_s, queued_s, running_s, prefill_s))
        costs = [sum(part) for part in parts]
        return Ranking(lowest(costs, rng), costs, "lowest cost", parts, _terms)

    def dispatched(self, lease: Lease, now_s: float) -> None:
        self._counts.dispatched(lease)

    def first_token(self, lease: Lease, now_s: float) -> None:
        self._counts.first_token(lease)

    def ended(self, lease: Lease, outcome: Outcome, now_s: float) -> None:
        self._counts.ended(lease)


def _terms(detail: list[tuple[float, float, float, float]], i: int) -> Terms:
    rtt_s, queued_s, running_s, prefill_s = detail[i]
    return (("rtt", rtt_s), ("queue", queued_s), ("running", running_s), ("prefill", prefill_s))
