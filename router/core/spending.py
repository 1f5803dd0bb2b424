"""Spending, by whom and with which model: sums per day and month, thresholds of budgets, forecasts. Pure.

Routers add batches to the books of a day and a month (``store/spend_book``); ``Book.add`` is the arithmetic, and
``store/lua/spend.lua`` has the same. A book is settled: unlike the account of a limit it holds no reservations, so a
threshold is not announced for requests that may turn out cheaper.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from router.core.limits import MICRO

#: Percent of a budget, each announced once per account, period and limit.
THRESHOLDS = (50, 80, 100)
#: Percent. When that much is spent, a request that does not fit into the rest means that all of a budget is used.
FULL = 90
#: Limits that an account remembers in a period, the last first: routers reload one after the other, and an account
#: of a JWT may have now one plan and now another.
LIMITS_MAX = 8
#: Rows and accounts in one book. More rows are added to the row of others, more accounts have no thresholds.
ROWS_MAX = 5000
ACCOUNTS_MAX = 100_000
#: The pace is that of the last calendar days, today included, and of an hour at least.
PACE_DAYS = 7
_PACE_S_MIN = 3600.0
DAY_S = 86_400


class Spender(NamedTuple):
    """A row of a book."""

    tenant: str
    key_id: str
    plan: str
    model: str  # that answered


OTHERS = Spender("other", "other", "", "other")


class Sums(NamedTuple):
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    microusd: int = 0

    def plus(self, other: Sums) -> Sums:
        return Sums(*map(sum, zip(self, other, strict=True)))


class Announced(NamedTuple):
    """The highest threshold of a limit that was announced, or that was passed already when the limit came."""

    limit: int
    percent: int


class AccountSpent(NamedTuple):
    """Of one account in one period. ``first_s``: of the wall clock, when the first of it was spent."""

    microusd: int = 0
    first_s: int = 0
    told: tuple[Announced, ...] = ()  # the limit that was used last is the first


class Seen(NamedTuple):
    """An account as a router last saw it in a book. ``born``: of the record that it saw; if the book has another one,
    it has lost that."""

    born: int
    spent: AccountSpent


class Charged(NamedTuple):
    """The dollars that an account with a budget has spent since the last batch, in millionths, as ``limit`` is, which
    is that of the period of the book. ``refused``: a request did not fit into the rest."""

    account: str
    microusd: int = 0
    limit: int | None = None
    refused: bool = False
    seen: Seen | None = None


class Crossing(NamedTuple):
    """An account has reached this threshold, which nobody has announced yet."""

    account: str
    percent: int
    microusd: int


@dataclass(slots=True)
class Book:
    """One day or month."""

    rows: dict[Spender, Sums] = field(default_factory=dict)
    accounts: dict[str, AccountSpent] = field(default_factory=dict)
    #: when the record of an account began, and how much of what was lost before has been put back into it
    records: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(
        self,
        rows: Mapping[Spender, Sums],
        charged: Iterable[Charged],
        now_s: float,
        *,
        rows_max: int = ROWS_MAX,
        accounts_max: int = ACCOUNTS_MAX,
    ) -> list[Crossing]:
        for spender, sums in rows.items():
            whose = spender if spender in self.rows or len(self.rows) < rows_max else OTHERS
            self.rows[whose] = self.rows.get(whose, Sums()).plus(sums)
        found: list[Crossing] = []
        for each in charged:
            before = self.accounts.get(each.account)
            if before is None:
                if len(self.accounts) >= accounts_max:
                    continue
                before = AccountSpent(0, int(now_s))
            born, back = self.records.get(each.account) or (int(now_s * MICRO), 0)
            if each.seen is not None and each.seen.born != born:
                before, back = restored(before, back, each.seen.spent)
            self.records[each.account] = born, back
            crossed, told = crossings(each, before)
            found += crossed
            self.accounts[each.account] = AccountSpent(before.microusd + each.microusd, before.first_s, told)
        return found


def restored(now: AccountSpent, back: int, seen: AccountSpent) -> tuple[AccountSpent, int]:
    """An account with what was seen of it before it was lost. Several routers may have seen it at different times: the
    most that any of them saw is put back, ``back`` of it already, and what was spent since the loss comes on top."""
    told = dict(now.told)
    for limit, percent in seen.told:
        told[limit] = max(told.get(limit, 0), percent)
    microusd = now.microusd + max(0, seen.microusd - back)
    kept = tuple(Announced(*each) for each in told.items())[:LIMITS_MAX]
    return AccountSpent(microusd, min(now.first_s, seen.first_s), kept), max(back, seen.microusd)


def crossings(charged: Charged, before: AccountSpent) -> tuple[list[Crossing], tuple[Announced, ...]]:
    """The thresholds that an account reaches with this charge, and what is announced of its limits then."""
    limit = charged.limit
    if limit is None:
        return [], before.told
    microusd = before.microusd + charged.microusd
    last = _told(before, limit)
    full = charged.refused and microusd >= limit * FULL / 100
    found = [
        Crossing(charged.account, percent, microusd)
        for percent in THRESHOLDS
        if percent > last and (microusd >= limit * percent / 100 or (full and percent == 100))
    ]
    now = Announced(limit, found[-1].percent if found else last)
    return found, (now, *(each for each in before.told if each.limit != limit))[:LIMITS_MAX]


def _told(before: AccountSpent, limit: int) -> int:
    """The highest threshold of a limit that is not announced again. Of a limit that has changed: of those that were
    announced for the last one, the highest that is passed by now."""
    for each in before.told:
        if each.limit == limit:
            return each.percent
    last = before.told[0].percent if before.told else 0
    return max((p for p in THRESHOLDS if p <= last and before.microusd >= limit * p / 100), default=0)


def pace_per_s(days: Sequence[AccountSpent | None], now_s: float) -> float:
    """Millionths of a dollar per second: what was spent in these days, today the last, by the time since the first of
    them began or, if the account is younger, since it spent for the first time; an hour at least."""
    spent = [day for day in days if day is not None and day.microusd]
    if not spent:
        return 0.0
    began_s = (now_s // DAY_S - len(days) + 1) * DAY_S
    if days[0] is None or not days[0].microusd:
        began_s = max(began_s, spent[0].first_s)
    return sum(day.microusd for day in spent) / max(_PACE_S_MIN, now_s - began_s)


def forecast(used: float, pace: float, left_s: float) -> float:
    """The use at the end of a period, if the pace stays as it is."""
    return used + pace * max(0.0, left_s)
