"""SGLang's router: the longest cached prefix, unless the load is out of balance."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.policy.base import Policy, Ranking, lowest
from router.core.types import Request, Rng

CACHE_THRESHOLD = 0.3
BALANCE_ABS = 64
BALANCE_REL = 1.5


class CacheAware(Policy):
    """Three rules, the first that applies:

    1. max - min > 64 requests and max > 1.5 * min: the fewest requests;
    2. the best match covers more than 0.3 of the prompt: the fewest requests among those with that match;
    3. the fewest requests.

    The load is the router's own in-flight count. Our prefix index stands in for the radix tree. Older versions took the
    smallest tree in rule 3, which led traffic to the slowest worker.
    """

    name = "cache_aware"
    summary = "Longest cached prefix above 30 % of the prompt while load is balanced, else fewest in flight."
    source = "SGLang router, cache_aware policy (cache_threshold 0.3, balance_abs 64, balance_rel 1.5)"
    hears_prefixes = False

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        loads = [b.inflight for b in candidates]
        blocks = request.prefix_blocks
        matches = [b.prefix.match(blocks) for b in candidates]
        most, least = max(loads), min(loads)
        ceiling = most + 1.0
        if most - least > BALANCE_ABS and most > BALANCE_REL * least:
            costs, reason = [float(load) for load in loads], "out of balance, fewest in flight"
        elif max(matches) * request.tokens_per_block > CACHE_THRESHOLD * request.prompt_tokens:
            best = max(matches)
            costs = [load + (0.0 if match == best else ceiling) for load, match in zip(loads, matches, strict=True)]
            reason = "longest prefix"
        else:
            costs, reason = [float(load) for load in loads], "no prefix known, fewest in flight"
        return Ranking(lowest(costs, rng), costs, reason, (loads, matches), _terms)


def _terms(detail: tuple[list[int], list[int]], i: int) -> Terms:
    loads, matches = detail
    return (("requests", float(loads[i])), ("matched blocks", float(matches[i])))
