"""The default: the backend where the first token is predicted soonest."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.affinity import rendezvous
from router.core.backend import Backend
from router.core.cost import Price, Terms, price_terms
from router.core.policy.base import Policy, Ranking
from router.core.types import Request, Rng

_Detail = tuple[list[Price], dict[int, float], int]


class Ttft(Policy):
    """Minimum of the predicted time to the first token, see ``cost``.

    Among candidates that are nearly as good (hysteresis), affinity decides, then the local region, then chance. A small
    share of requests visits the candidate we have heard of longest ago, if that costs little, so that what we know of
    quiet backends does not go stale.
    """

    name = "ttft"
    summary = "Soonest predicted first token: network, queue, uncached prefill, KV pressure, learned online."
    source = "GORGO's additive cost, llm-d's exploration, Linkerd's failure penalty; own online fit"

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        model, tokens = request.model, request.prompt_tokens
        prices = [b.prices[model] for b in candidates]
        costs = [p[0] + tokens * p[1] for p in prices]
        cached: dict[int, float] = {}
        if blocks := request.prefix_blocks:
            first = blocks[0]
            for i, b in enumerate(candidates):
                if first in b.prefix.known:
                    hit = min(b.prefix.match(blocks) * request.tokens_per_block * b.prefix.trust, tokens)
                    cached[i] = hit
                    costs[i] -= hit * prices[i][1]
        params = self.params
        best = min(costs)
        if rng.random() < params.explore_ratio:
            chosen = self._stalest(model, candidates, costs, best + params.explore_extra_s, now_s)
            if chosen is not None:
                return Ranking(chosen, costs, "explored", (prices, cached, tokens), _terms)
        if request.affinity is None:
            near = best + max(params.hysteresis_s, best * params.hysteresis_ratio)
        else:
            near = best + max(params.affinity_s, best * params.affinity_ratio)
        close = [i for i, cost in enumerate(costs) if cost <= near]
        if len(close) == 1:
            return Ranking(close[0], costs, "lowest cost", (prices, cached, tokens), _terms)
        chosen, reason = self._prefer(request, candidates, costs, cached, close, rng)
        return Ranking(chosen, costs, reason, (prices, cached, tokens), _terms)

    def _prefer(
        self,
        request: Request,
        candidates: Sequence[Backend],
        costs: list[float],
        cached: dict[int, float],
        close: list[int],
        rng: Rng,
    ) -> tuple[int, str]:
        """One of ``close``: all of them are good enough, so what costs do not say may decide."""
        reason = "lowest cost"
        if request.affinity is not None:
            return rendezvous(request.affinity, [(i, candidates[i].name) for i in close]), "affinity"
        if cached and (most := max([cached.get(i, 0.0) for i in close])) > 0.0:
            warm = [i for i in close if cached.get(i, 0.0) == most]
            if len(warm) < len(close):
                close, reason = warm, "knows the prefix"
        local = [i for i in close if candidates[i].local]
        if local and len(local) < len(close):
            close = local
            if reason == "lowest cost":
                reason = "local region"
        tie = min([costs[i] for i in close]) + self.params.tie_s
        close = [i for i in close if costs[i] <= tie]
        return close[0] if len(close) == 1 else close[int(rng.random() * len(close))], reason

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


def _terms(detail: _Detail, i: int) -> Terms:
    prices, cached, tokens = detail
    return price_terms(prices[i], tokens - cached.get(i, 0.0))
