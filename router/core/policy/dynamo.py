"""NVIDIA Dynamo's KV router: blocks to compute plus blocks to hold."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy.base import Policy, Ranking, lowest
from router.core.policy.token_counts import TokenCounts
from router.core.types import Lease, Request, Rng

#: tokens of a KV block
BLOCK_TOKENS = 16
PREFILL_LOAD_SCALE = 1.0
OVERLAP_CREDIT = 1.0


class Dynamo(Policy):
    """cost = scale * max(prefill blocks active + incoming - overlap, 0) + decode blocks active + incoming.

    Temperature 0: the minimum, chance between equals. Our prefix index stands in for the KV events.
    """

    name = "dynamo"
    summary = "Prefill blocks still to compute (less the cached overlap) plus decode blocks held."
    source = "NVIDIA Dynamo KV router, default selector (overlap weight 1, temperature 0)"
    observes = True

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._counts = TokenCounts()

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        queued, running = self._counts.queued, self._counts.running
        incoming = request.prompt_tokens / BLOCK_TOKENS
        parts: list[tuple[float, float]] = []
        for b in candidates:
            overlap = b.prefix.match(request.prefix_blocks) * request.tokens_per_block / BLOCK_TOKENS
            prefill = max(queued.get(b.name, 0) / BLOCK_TOKENS + incoming - OVERLAP_CREDIT * overlap, 0.0)
            decode = (running.get(b.name, 0) + queued.get(b.name, 0)) / BLOCK_TOKENS + incoming
            parts.append((PREFILL_LOAD_SCALE * prefill, decode))
        costs = [prefill + decode for prefill, decode in parts]
        return Ranking(lowest(costs, rng), costs, "fewest blocks", parts, _terms)

    def dispatched(self, lease: Lease, now_s: float) -> None:
        self._counts.dispatched(lease)

    def first_token(self, lease: Lease, now_s: float) -> None:
        self._counts.first_token(lease)

    def ended(self, lease: Lease, outcome: Outcome, now_s: float) -> None:
        self._counts.ended(lease)


def _terms(detail: list[tuple[float, float]], i: int) -> Terms:
    prefill, decode = detail[i]
    return (("prefill blocks", prefill), ("decode blocks", decode))
