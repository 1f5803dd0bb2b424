"""Words and numbers about limits for clients and operators, made from the state of an account."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from router.core.limits import INDEX, KINDS, MICRO, NOTHING, REQUESTS, SLOTS, LimitKind, Limits, Shape, Units
from router.core.quota import MINUTE_US, Account, Shortfall, Standing, settle
from router.store.base import Holder, Key, LimitState, Refusal, Shown, ShownRates

#: Index and name of every kind that response headers tell.
SHOWN = tuple((i, kind.name) for i, kind in enumerate(KINDS) if kind.header is not None)
#: Of a dollar: money is counted in millionths.
_DECIMALS_MAX = 6


def remaining(deficit_us: int, per_minute: int) -> int:
    """Units of a rate that can be used now."""
    return max(0, (MINUTE_US - deficit_us) * per_minute // MINUTE_US)


def shown(limits: Limits, used: Sequence[int]) -> ShownRates:
    """The rates that headers tell, from what an account has used of each kind."""
    return ShownRates(
        [
            Shown(name, limit, remaining(used[i], limit), used[i] / MICRO)
            for i, name in SHOWN
            if (limit := limits.limits[i]) is not None
        ]
    )


def refusal(limits: Limits, shortfall: Shortfall, standing: Standing, cost: Units) -> Refusal:
    """The words for a shortfall."""
    index = INDEX[shortfall.limit]
    limit = limits[index]
    assert limit is not None
    wait_s = None if shortfall.never else shortfall.wait_us / MICRO
    words = _never(index, limit, cost) if wait_s is None else _used_up(index, limit, standing, cost, wait_s)
    return Refusal(shortfall.limit, words, wait_s, shown(limits, standing.used))


def whose(limit: str, holder: Holder) -> str:
    """A sentence that names a limit by its key in regions.toml, and whose it is."""
    who = f'plan "{holder.plan.name}", {holder.scope.called(holder.name)}' if isinstance(holder, Key) else ""
    return f"The limit is {KINDS[INDEX[limit]].key} of {who or holder.scope.called(holder.name)}."


def limit_states(limits: Limits, standing: Standing, scope: str, held: Units = NOTHING) -> list[LimitState]:
    """Every limit of an account as it stands. Units that routers hold ahead of need count as free and are told apart;
    those that they owe count as used."""
    found, apart = [], without(limits, standing, held)
    for i, _, limit in limits.active:
        state = _state(KINDS[i], limit, apart.used[i], standing.now_us, scope)
        with_them = _state(KINDS[i], limit, standing.used[i], standing.now_us, scope)
        found.append(replace(state, held=max(0, with_them.used - state.used)))
    return found


def with_slots(standing: Standing, slots: int) -> Standing:
    """A standing with another number of slots in use."""
    return standing._replace(used=(*standing.used[:SLOTS], slots, *standing.used[SLOTS + 1 :]))


def without(limits: Limits, standing: Standing, held: Units) -> Standing:
    """Where the account would stand if routers did not hold this for requests to come, or had told what they owe."""
    now_us = standing.now_us
    account = Account.seen(now_us, standing.used)
    settle(account, limits, now_us, held, taken_us=now_us, lease_us=0)
    return with_slots(Standing(now_us, tuple(account.used)), max(0, standing.used[SLOTS] - held[SLOTS]))


def _state(kind: LimitKind, limit: int, used: int, now_us: int, scope: str) -> LimitState:
    if kind.shape is Shape.RATE:
        spent = math.ceil(used * limit / MINUTE_US)
        return LimitState(kind.name, limit, spent, remaining(used, limit), used / MICRO, scope)
    reset_s = None
    if kind.period is not None:
        reset_s = (kind.period.end_us(kind.period.number(now_us)) - now_us) / MICRO
    unit = MICRO if kind.money else 1
    left = max(0, limit - used)
    if unit == 1:
        return LimitState(kind.name, limit, used, left, reset_s, scope)
    return LimitState(kind.name, limit / unit, used / unit, left / unit, reset_s, scope)


def _used_up(index: int, limit: int, standing: Standing, cost: Units, wait_s: float) -> str:
    kind, used = KINDS[index], standing.used[index]
    if kind.shape is Shape.SLOTS:
        return f"Limit reached: {used} of {limit} {kind.each} are in progress."
    if kind.period is not None:
        what, unit = ("Budget", " USD") if kind.money else ("Limit", f" {kind.counts}")
        figures = _dollars(used, cost[index], limit) if kind.money else [str(used), str(cost[index]), str(limit)]
        need, period = "may cost" if kind.money else "may take", kind.period.name
        return (
            f"{what} reached: {figures[0]} of {figures[2]}{unit} of this {period} are used and this request {need} "
            f"{figures[1]}{unit}. The {period} ends in {_span(wait_s)}."
        )
    spent = math.ceil(used * limit / MINUTE_US)
    return (
        f"Limit reached: {spent} of {limit} {kind.each} are used and this request needs {cost[index]}. "
        f"Retry in {_span(wait_s)}; the limit is fully free in {_span(used / MICRO)}."
    )


def _never(index: int, limit: int, cost: Units) -> str:
    kind, most = KINDS[index], str(limit)
    if kind.money:
        _, needed, most = _dollars(0, cost[index], limit)
        asked = f"may cost {needed} USD"
    elif kind.shape is Shape.SLOTS:
        asked = "needs one"
    else:
        asked = f"counts as {cost[index]}" if index == REQUESTS else f"needs {cost[index]}"
    return f"This request {asked}, above the whole limit of {most} {kind.each}: waiting does not help, ask for less."


def _dollars(used: int, cost: int, limit: int) -> list[str]:
    """The three with the fewest decimals, all with as many, that leave the sentence true: what differs looks different,
    the smallest has two digits that count or is exact, and the sum is above the limit where it really is."""
    units = (used, cost, limit)
    smallest = min((each for each in units if each), default=0)
    for decimals in range(2, _DECIMALS_MAX):
        step = 10 ** (_DECIMALS_MAX - decimals)
        rounded = [(each + step // 2) // step for each in units]
        told = smallest >= 10 * step or smallest % step == 0
        over = (rounded[0] + rounded[1] > rounded[2]) == (used + cost > limit)
        if told and over and len(set(rounded)) == len(set(units)):
            return [_decimal(each, decimals) for each in rounded]
    return [_decimal(each, _DECIMALS_MAX) for each in units]


def _decimal(steps: int, decimals: int) -> str:
    """A number of steps, each one of the last decimal."""
    whole, part = divmod(steps, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
