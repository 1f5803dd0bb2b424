"""From the numbers of an account to what a client or an operator is told."""

from __future__ import annotations

import math

from router.config import Plan
from router.core.quota import MINUTE_US, Cost, Limits, Standing, Verdict, month_end_us, month_of
from router.store.base import LimitState, Refusal

#: Above this a limit per minute is as good as none, and the arithmetic would no longer be exact.
PER_MINUTE_MAX = 10**11
_US = 1e6


def limits_of(plan: Plan) -> Limits:
    """A plan's limits in the units of the arithmetic."""
    return Limits(
        None if plan.requests_per_minute is None else min(plan.requests_per_minute, PER_MINUTE_MAX),
        None if plan.tokens_per_minute is None else min(plan.tokens_per_minute, PER_MINUTE_MAX),
        plan.concurrent,
        None if plan.budget_usd_month is None else round(plan.budget_usd_month * 1e6),
    )


def remaining(deficit_us: int, per_minute: int) -> int:
    return max(0, (MINUTE_US - deficit_us) * per_minute // MINUTE_US)


def refusal(limits: Limits, verdict: Verdict, standing: Standing, cost: Cost) -> Refusal:
    """The words for a verdict that took nothing."""
    assert verdict.limit is not None
    wait_s = None if verdict.never else verdict.wait_us / _US
    words = _never if verdict.never else _used_up
    answer = Refusal(verdict.limit, words(verdict.limit, limits, standing, cost, wait_s or 0.0), wait_s)
    if limits.requests_per_minute is not None:
        answer.limit_requests = limits.requests_per_minute
        answer.remaining_requests = remaining(standing.requests_us, limits.requests_per_minute)
        answer.reset_requests_s = standing.requests_us / _US
    if limits.tokens_per_minute is not None:
        answer.limit_tokens = limits.tokens_per_minute
        answer.remaining_tokens = remaining(standing.tokens_us, limits.tokens_per_minute)
        answer.reset_tokens_s = standing.tokens_us / _US
    return answer


def limit_states(limits: Limits, standing: Standing, scope: str) -> list[LimitState]:
    """Every limit of a plan as it stands."""
    states = []
    rates = (
        ("requests", limits.requests_per_minute, standing.requests_us),
        ("tokens", limits.tokens_per_minute, standing.tokens_us),
    )
    for name, per_minute, deficit_us in rates:
        if per_minute is not None:
            used = math.ceil(deficit_us * per_minute / MINUTE_US)
            left = remaining(deficit_us, per_minute)
            states.append(LimitState(name, per_minute, used, left, deficit_us / _US, scope))
    if (places := limits.concurrent) is not None:
        states.append(LimitState("concurrent", places, standing.slots, max(0, places - standing.slots), None, scope))
    if (budget := limits.budget_microusd) is not None:
        spent = standing.spent_microusd
        reset_s = (month_end_us(month_of(standing.now_us)) - standing.now_us) / _US
        states.append(LimitState("budget", budget / _US, spent / _US, max(0, budget - spent) / _US, reset_s, scope))
    return states


def _used_up(limit: str, limits: Limits, standing: Standing, cost: Cost, wait_s: float) -> str:
    if limit == "concurrent":
        return f"Limit reached: {standing.slots} of {limits.concurrent} concurrent requests are in progress."
    if limit == "budget":
        assert limits.budget_microusd is not None
        return (
            f"Budget reached: {_usd(standing.spent_microusd)} of {_usd(limits.budget_microusd)} USD of this month are "
            f"used and this request may cost {_usd(cost.microusd)} USD. The month ends in {_span(wait_s)}."
        )
    per_minute, deficit_us, asked = (
        (limits.requests_per_minute, standing.requests_us, cost.requests)
        if limit == "requests"
        else (limits.tokens_per_minute, standing.tokens_us, cost.tokens)
    )
    assert per_minute is not None
    used = math.ceil(deficit_us * per_minute / MINUTE_US)
    return (
        f"Limit reached: {used} of {per_minute} {limit} per minute are used and this request needs {asked}. "
        f"Retry in {_span(wait_s)}; the limit is whole again in {_span(deficit_us / _US)}."
    )


def _never(limit: str, limits: Limits, standing: Standing, cost: Cost, wait_s: float) -> str:
    if limit == "budget":
        assert limits.budget_microusd is not None
        whole, asked = f"{_usd(limits.budget_microusd)} USD per month", f"may cost {_usd(cost.microusd)} USD"
    elif limit == "concurrent":
        whole, asked = f"{limits.concurrent} concurrent requests", "needs one"
    elif limit == "requests":
        whole, asked = f"{limits.requests_per_minute} requests per minute", f"counts as {cost.requests}"
    else:
        whole, asked = f"{limits.tokens_per_minute} tokens per minute", f"needs {cost.tokens}"
    return f"This request {asked}, above the whole limit of {whole}: waiting does not help, ask for less."


def _usd(microusd: int) -> str:
    return f"{microusd / _US:.2f}" if microusd >= 10_000 else f"{microusd / _US:.6f}"


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
