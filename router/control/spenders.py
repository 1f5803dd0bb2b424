"""Who has spent something, by the books: accounts of JWTs, the pace of accounts, and sums by what one likes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from router import clock
from router.config import Config
from router.control.plane import ControlPlane
from router.core.limits import MICRO
from router.core.periods import DAY, DAY_US, MONTH, Period
from router.core.spending import PACE_DAYS, Spender, Sums, pace_per_s
from router.identity.claims import ACCOUNT
from router.store.base import Key
from router.store.courier import LinkError
from router.store.keys import no_room
from router.store.spend_book import day_at

#: Sums can be made by these, in the order of a row.
GROUPS = Spender._fields
BY = {"tenant": "tenant", "key": "key_id", "plan": "plan", "model": "model"}
PERIODS = {period.name: period for period in (DAY, MONTH)}


async def month_rows(control: ControlPlane) -> dict[Spender, Sums]:
    """This month's, with what this router has just answered; empty while the store is away."""
    await control.bookkeeper.flush()
    try:
        return await control.store.spending.rows(MONTH, MONTH.number(int(clock.wall_s() * MICRO)))
    except LinkError:
        return {}


def jwt_holders(rows: Iterable[Spender], config: Config) -> list[Key]:
    """The accounts of JWTs that were used this month: one for each tenant, with the plan that was used last in the
    order of rows."""
    found: dict[str, Key] = {}
    for spender in rows:
        if spender.key_id.startswith(ACCOUNT):
            plan = config.plans.get(spender.plan)
            found[spender.key_id] = Key(
                spender.key_id,
                spender.tenant,
                spender.tenant,
                plan if plan is not None else no_room(spender.plan),
                created_s=0.0,
                revoked=False,
                plan_missing=plan is None,
            )
    return sorted(found.values(), key=lambda key: key.id)


def jwt_plans(rows: Iterable[Spender]) -> dict[str, list[str]]:
    """The plans that the JWTs of each account had this month, by account."""
    found: dict[str, set[str]] = {}
    for spender in rows:
        if spender.key_id.startswith(ACCOUNT):
            found.setdefault(spender.key_id, set()).add(spender.plan)
    return {account: sorted(plans) for account, plans in found.items()}


async def paces(control: ControlPlane, accounts: Sequence[str]) -> dict[str, float]:
    """Dollars per second of each account over the last days; empty while the store is away."""
    now_s = clock.wall_s()
    today = day_at(now_s)
    try:
        spent = await control.store.spending.spent(accounts, DAY, range(today - PACE_DAYS + 1, today + 1))
    except LinkError:
        return {}
    return {a: pace_per_s(days, now_s) / MICRO for a, days in zip(accounts, spent, strict=True)}


def summed(rows: Mapping[Spender, Sums], by: Sequence[str]) -> dict[tuple[str, ...], Sums]:
    """Rows added up by some of BY."""
    places = [GROUPS.index(BY[name]) for name in by]
    found: dict[tuple[str, ...], Sums] = {}
    for spender, sums in rows.items():
        group = tuple(spender[i] for i in places)
        found[group] = found.get(group, Sums()).plus(sums)
    return found


def document(sums: Sums, total: Sums) -> dict[str, Any]:
    """``share``: of the dollars of all; None where nothing has a price."""
    return {
        "requests": sums.requests,
        "prompt_tokens": sums.prompt_tokens,
        "output_tokens": sums.output_tokens,
        "cost_usd": sums.microusd / MICRO,
        "share": sums.microusd / total.microusd if total.microusd else None,
    }


def number_of(period: Period, text: str) -> int | None:
    """The number of a day or month as in 2026-11-30 and 2026-11. None: it is neither."""
    parts = text.split("-")
    digits = all(part.isascii() and part.isdigit() for part in parts)
    if not digits or [len(part) for part in parts] != ([4, 2] if period is MONTH else [4, 2, 2]):
        return None
    year, month, *day = map(int, parts)
    if not 1 <= month <= 12 or year < 1970:
        return None
    if period is MONTH:
        return year * 12 + month - 1
    first = MONTH.end_us(year * 12 + month - 2) // DAY_US
    found = first + day[0] - 1
    return found if day[0] >= 1 and MONTH.number(found * DAY_US) == year * 12 + month - 1 else None


def name_of(period: Period, number: int) -> str:
    """A day or month as people write it."""
    if period is MONTH:
        return f"{number // 12:04d}-{number % 12 + 1:02d}"
    month = MONTH.number(number * DAY_US)
    first = MONTH.end_us(month - 1) // DAY_US
    return f"{name_of(MONTH, month)}-{number - first + 1:02d}"
