"""The least money, as long as it is quick enough."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from router.core.backend import Backend
from router.core.cost import Terms, work_s
from router.core.policy.base import Policy, Ranking, lowest
from router.core.types import Request, Rng


class Cheapest(Policy):
    """The lowest hourly price among candidates whose first token is predicted within ``cheapest_ttft_s``.

    Equal prices are settled by the fewest requests in flight. If none is that quick, the quickest is taken: cheap and
    late serves nobody.
    """

    name = "cheapest"
    summary = "Lowest cost_usd_hour whose predicted first token comes within 2 s, else the quickest."
    source = "OpenRouter's price sort, with a latency bound"

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        model, tokens = request.model, request.prompt_tokens
        quotes = [b.lanes[model].quote for b in candidates]
        waits = [fixed_s + work_s(ahead.rates, tokens, tokens) for fixed_s, _, _, ahead in quotes]
        dollars = [b.spec.cost_usd_hour for b in candidates]
        bound = self.params.cheapest_ttft_s
        costs = [usd if wait <= bound else max(dollars) + wait for usd, wait in zip(dollars, waits, strict=True)]
        best = min(costs)
        loads = [
            b.inflight + b.others_inflight if cost == best else inf for b, cost in zip(candidates, costs, strict=True)
        ]
        chosen = lowest(loads, rng)
        reason = "lowest price" if waits[chosen] <= bound else "none is quick enough, quickest"
        return Ranking(chosen, costs, reason, (dollars, waits), _terms)


def _terms(detail: tuple[list[float], list[float]], i: int) -> Terms:
    dollars, waits = detail
    return (("usd per hour", dollars[i]), ("ttft", waits[i]))
