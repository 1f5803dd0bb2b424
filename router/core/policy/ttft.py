"""The default: the backend where the first token is predicted soonest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from zlib import crc32

from router.core.affinity import rendezvous
from router.core.backend import Backend
from router.core.cost import Quote, Terms, cost_terms
from router.core.lane import Lineup
from router.core.policy.base import Policy, Ranking
from router.core.types import Request, Rng

_NOTHING_CACHED: dict[int, float] = {}
#: What decides, for operators: the cost, or among those that are nearly as good the others.
RULES = ("lowest cost", "chance", "spread by prompt", "knows the prefix", "local region", "affinity", "explored")
_COST, _CHANCE, _SPREAD, _PREFIX, _LOCAL, _AFFINITY, _EXPLORED = RULES
_Detail = tuple[list[Quote], dict[int, float], int]


class Ttft(Policy):
    """Minimum of the predicted time to the first token, see ``cost``.

    Among candidates that are nearly as good (hysteresis), affinity decides, then the local region, then chance. A small
    share of requests visits the candidate we have heard of longest ago, if that costs little, so that what we know of
    quiet backends does not go stale.
    """

    name = "ttft"
    summary = "Soonest predicted first token: network, queue, uncached prefill, KV pressure, learned online."
    source = "GORGO's additive cost, llm-d's exploration, Linkerd's failure penalty; own online fit"
    binds_late = True

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        model, tokens = request.model, request.prompt_tokens
        lineup = candidates if isinstance(candidates, Lineup) else Lineup.part(candidates, model)
        quotes = lineup.quotes.copy()
        rates = quotes[0][3].rates
        plain_s = tokens * (rates.token_s + tokens * rates.pair_s)
        # One expression and no calls: this runs for every backend on every request.
        costs = [fixed_s + plain_s * (rate + plain_s * curve) for fixed_s, rate, curve, _ in quotes]
        cached = _cached(request, lineup, quotes, costs) if request.prefix_blocks else _NOTHING_CACHED
        params = self.params
        order = sorted(range(len(costs)), key=costs.__getitem__)
        best = costs[order[0]]
        detail = (quotes, cached, tokens)
        if rng.random() < params.explore_ratio:
            stalest = self._stalest(model, candidates, costs, best + params.explore_extra_s, now_s)
            if stalest is not None:
                return Ranking(stalest, costs, _EXPLORED, detail, _terms, cached.get(stalest, 0.0))
        if request.affinity is None:
            near = best * (1.0 + params.hysteresis_ratio)
            if near < best + params.hysteresis_s:
                near = best + params.hysteresis_s
        else:
            near = best + max(params.affinity_s, best * params.affinity_ratio)
        if len(order) == 1 or costs[order[1]] > near:
            chosen, reason = order[0], _COST
        elif request.affinity is None:
            chosen, reason = self._prefer(request, lineup, costs, cached, _within(near, order, costs), rng)
        else:
            close = _within(near, order, costs)
            key = crc32(request.affinity.encode())
            chosen, reason = close[rendezvous(key, [candidates[i].seed for i in close])], _AFFINITY
        return Ranking(chosen, costs, reason, detail, _terms, cached.get(chosen, 0.0) if cached else 0.0)

    def _prefer(
        self,
        request: Request,
        lineup: Lineup,
        costs: list[float],
        cached: dict[int, float],
        close: list[int],
        rng: Rng,
    ) -> tuple[int, str]:
        """One of ``close``, the cheapest first: all of them are good enough, so what costs do not say may decide."""
        preferred, reason = close, _COST
        if cached:
            most = max([cached.get(i, 0.0) for i in close])
            preferred = [i for i in close if cached.get(i, 0.0) == most]
            if len(preferred) < len(close):
                reason = _PREFIX
        if local := list(filter(lineup.local.__contains__, preferred)):
            if len(local) < len(preferred) == len(close):
                reason = _LOCAL
            preferred = local
        if len(preferred) == 1:
            return preferred[0], reason
        if request.prefix_blocks:
            # The first block that is new to them decides: other routers would send the same prompt the same way.
            matched = lineup[preferred[0]].prefix.match(request.prefix_blocks) if cached else 0
            key = request.prefix_blocks[min(matched, len(request.prefix_blocks) - 1)]
            chosen = preferred[rendezvous(key, [lineup[i].seed for i in preferred])]
            return chosen, _SPREAD if reason is _COST else reason
        preferred = _within(costs[preferred[0]] + self.params.tie_s, preferred, costs)
        if len(preferred) > 1 and reason is _COST:
            reason = _CHANCE
        return preferred[int(rng.random() * len(preferred))], reason

    def _stalest(
        self, model: str, candidates: Sequence[Backend], costs: list[float], most: float, now_s: float
    ) -> int | None:
        """The affordable candidate heard of longest ago, if that is long enough."""
        oldest_s, stalest = now_s - self.params.explore_after_s, None
        for i, b in enumerate(candidates):
            heard_s = b.lanes[model].fit.at_s
            if costs[i] <= most and heard_s < oldest_s:
                oldest_s, stalest = heard_s, i
        return stalest


def _within(most: float, order: list[int], costs: list[float]) -> list[int]:
    """The first of ``order``, the cheapest first, that cost no more than ``most``."""
    return order[: bisect_right(order, most, key=costs.__getitem__)]


def _cached(request: Request, lineup: Lineup, quotes: list[Quote], costs: list[float]) -> dict[int, float]:
    """Tokens of the prompt that candidates have in their caches, by index. Puts right what these cost."""
    tokens, blocks, block_tokens = request.prompt_tokens, request.prefix_blocks, request.tokens_per_block
    first, last, matched = blocks[0], blocks[-1], 1
    rates = quotes[0][3].rates
    token_s, pair_s = rates.token_s, rates.pair_s
    cached: dict[int, float] = {}
    for i in [i for i, known in enumerate(lineup.known) if first in known]:
        prefix = lineup[i].prefix
        known = prefix.known
        if last in known:
            hit = len(blocks) * block_tokens * prefix.trust
        else:
            # Mostly as much is known as at the candidate before: two looks instead of a search.
            if blocks[matched - 1] not in known or blocks[matched] in known:
                matched = prefix.match(blocks)
            hit = matched * block_tokens * prefix.trust
        if hit > tokens:
            hit = float(tokens)
        cached[i] = hit
        fixed_s, rate, curve, _ = quotes[i]
        plain_s = (tokens - hit) * (token_s + (tokens + hit) * pair_s)
        costs[i] = fixed_s + plain_s * (rate + plain_s * curve)
    return cached


def _terms(detail: _Detail, i: int) -> Terms:
    quotes, cached, tokens = detail
    return cost_terms(quotes[i][3], tokens, tokens - cached.get(i, 0.0))
