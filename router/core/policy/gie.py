"""The Gateway API inference extension's scheduler until August 2026: a weighted sum of scores, the highest wins.

Its successor is ``llmd``.
"""

from __future__ import annotations

from collections.abc import Sequence

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.policy.base import Policy, Ranking, lowest
from router.core.types import Request, Rng

QUEUE_WEIGHT = 2.0
KV_WEIGHT = 2.0
PREFIX_WEIGHT = 3.0


class Gie(Policy):
    """score = 2 * queue + 2 * kv + 3 * prefix, each in 0..1.

    - queue: (max - waiting) / (max - min) over the candidates, 1 when all are equal;
    - kv: 1 - KV cache use;
    - prefix: matched blocks / blocks of the prompt.

    Queue and KV come from the scrape alone, as they do there; without a fresh one they score nothing. The cost shown is
    what is missing to the best possible score.
    """

    name = "gie"
    summary = "Weighted scores of scraped queue (2), KV use (2) and prefix match (3)."
    source = (
        "Kubernetes Gateway API inference extension, endpoint picker: queue, kv-cache-utilization, prefix-cache scorers"
    )
    hears_prefixes = False

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        blocks = request.prefix_blocks
        loads = [b.others.fresh_load(now_s) for b in candidates]
        waiting = [None if load is None else load.waiting for load in loads]
        known = [count for count in waiting if count is not None]
        most, least = max(known, default=0.0), min(known, default=0.0)
        scores: list[tuple[float, float, float]] = []
        for b, load, count in zip(candidates, loads, waiting, strict=True):
            queue = 0.0 if count is None else 1.0 if most == least else (most - count) / (most - least)
            kv = 0.0 if load is None or load.kv_ratio is None else 1.0 - load.kv_ratio
            prefix = b.prefix.match(blocks) / len(blocks) if blocks else 0.0
            scores.append((QUEUE_WEIGHT * queue, KV_WEIGHT * kv, PREFIX_WEIGHT * prefix))
        best = QUEUE_WEIGHT + KV_WEIGHT + PREFIX_WEIGHT
        costs = [best - sum(score) for score in scores]
        return Ranking(lowest(costs, rng), costs, "highest score", scores, _terms)


def _terms(detail: list[tuple[float, float, float]], i: int) -> Terms:
    queue, kv, prefix = detail[i]
    return (
        ("queue missing", QUEUE_WEIGHT - queue),
        ("kv missing", KV_WEIGHT - kv),
        ("prefix missing", PREFIX_WEIGHT - prefix),
    )
