"""llm-d's optimised baseline since August 2026: sticky until saturated, then the fewest tokens in flight."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy.base import Policy, Ranking, lowest
from router.core.policy.token_counts import TokenCounts
from router.core.types import Lease, Request, Rng

#: a backend that has this share of the prompt's blocks is sticky
AFFINITY_THRESHOLD = 0.80
#: stickiness ends when the best sticky backend has this much more prefill ahead of it than the best other one
MAX_PENALTY_S = 18.0
#: tokens per second: Qwen3-32B on two H100, the original's default; elsewhere it is to be measured
PEAK_PREFILL_TOKENS_PER_S = 15_928.0
#: tokens in flight at which the load score reaches zero
QUEUE_TOKENS_MAX = 4_194_304


class Llmd(Policy):
    """Filter, then score. In flight are the uncached prompt tokens of requests without a first token.

    - prefix-cache-affinity-filter: keep the backends that have at least 0.8 of the prompt's blocks; all, if there are
      none, or if even the best of them has over 18 s more of prefill in flight than the best of the others;
    - token-load-scorer: 1 - min(1, tokens / 4 Mi), with the tokens in flight and the uncached ones of this request;
    - max-score-picker: the highest, chance between equals.

    The cost shown is the tokens that the score counts; it is infinite for what the filter dropped.
    """

    name = "llmd"
    summary = "Sticky to backends with 0.8 of the prefix until they are 18 s behind, then fewest tokens in flight."
    source = (
        "llm-d/llm-d-router: prefix-cache-affinity-filter, token-load-scorer, max-score-picker with their defaults; "
        "llm-d.ai/blog/sticky-until-saturated-token-aware-routing (2026-08-04)"
    )
    observes = True
    hears_prefixes = False

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._counts = TokenCounts()

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        blocks, queued = request.prefix_blocks, self._counts.queued
        matches = [b.prefix.match(blocks) for b in candidates]
        in_flight = [float(queued.get(b.name, 0)) for b in candidates]
        sticky = [bool(blocks) and match >= AFFINITY_THRESHOLD * len(blocks) for match in matches]
        kept, reason = _filter(sticky, in_flight)
        parts: list[tuple[float, float]] = []
        costs: list[float] = []
        for match, tokens, keep in zip(matches, in_flight, kept, strict=True):
            uncached = max(request.prompt_tokens - match * request.tokens_per_block, 0.0)
            parts.append((tokens, uncached))
            costs.append(min(tokens + uncached, QUEUE_TOKENS_MAX) if keep else inf)
        return Ranking(lowest(costs, rng), costs, reason, parts, _terms)

    def dispatched(self, lease: Lease, now_s: float) -> None:
        self._counts.dispatched(lease)

    def first_token(self, lease: Lease, now_s: float) -> None:
        self._counts.first_token(lease)

    def ended(self, lease: Lease, outcome: Outcome, now_s: float) -> None:
        self._counts.ended(lease)


def _filter(sticky: list[bool], in_flight: list[float]) -> tuple[list[bool], str]:
    """Which candidates stay, and why."""
    everybody = [True] * len(sticky)
    if not any(sticky) or all(sticky):
        return everybody, "fewest tokens in flight"
    best = min(tokens for tokens, is_sticky in zip(in_flight, sticky, strict=True) if is_sticky)
    best_other = min(tokens for tokens, is_sticky in zip(in_flight, sticky, strict=True) if not is_sticky)
    if (best - best_other) / PEAK_PREFILL_TOKENS_PER_S > MAX_PENALTY_S:
        return everybody, "fewest tokens in flight, those that know the prefix are saturated"
    return sticky, "knows the prefix, fewest tokens in flight"


def _terms(detail: list[tuple[float, float]], i: int) -> Terms:
    in_flight, uncached = detail[i]
    return (("tokens in flight", in_flight), ("uncached tokens", uncached))
