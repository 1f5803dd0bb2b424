"""Budgets as metrics: the limit, what is spent, and what will be at the end of the day or month.

Read from the books that all routers share, now and then, and kept for whoever scrapes. Tenants, models and all requests
with a budget are there; of keys, and of tenants without limits of their own, those that have spent something lately.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from router.core.limits import INDEX, MICRO, SUMS, Limits
from router.core.periods import DAY, Period
from router.core.scopes import Scope
from router.core.spending import PACE_DAYS, forecast, pace_per_s
from router.store.base import Store
from router.store.courier import LinkError
from router.store.spend_book import day_at
from router.telemetry.metrics import GaugeSample

#: Accounts that are told of; the one that has spent nothing for the longest time is forgotten.
ACCOUNTS_MAX = 200
EVERY_S = 15.0

#: name of the kind, its index, and its period, of every limit on money
BUDGETS: tuple[tuple[str, int, Period], ...] = tuple(
    (name, i, period) for name, i in INDEX.items() for j, period in SUMS if i == j
)


class Budgeted(NamedTuple):
    """An account with a budget, and whose it is."""

    account: str
    scope: Scope
    name: str
    tenant: str | None
    plan: str | None
    limits: Limits


class Budgets:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._holders: OrderedDict[str, Budgeted] = OrderedDict()
        self._samples: list[GaugeSample] = []

    def __repr__(self) -> str:
        return f"<Budgets of {len(self._holders)} accounts>"

    def seen(self, holders: Mapping[str, Budgeted]) -> None:
        """These have just spent something."""
        for account, holder in holders.items():
            self._holders[account] = holder
            self._holders.move_to_end(account)
        while len(self._holders) > ACCOUNTS_MAX:
            self._holders.popitem(last=False)

    async def look(self, groups: Iterable[Budgeted], now_s: float) -> None:
        """Read the books. While the store is away the figures stay as they are."""
        told = {holder.account: holder for holder in (*groups, *reversed(self._holders.values()))}
        accounts = list(told)[:ACCOUNTS_MAX]
        today = day_at(now_s)
        try:
            days = await self._store.spending.spent(accounts, DAY, range(today - PACE_DAYS + 1, today + 1))
            numbers = {period: period.number(int(now_s * MICRO)) for _, _, period in BUDGETS}
            spent = {p: await self._store.spending.spent(accounts, p, [number]) for p, number in numbers.items()}
        except LinkError:
            return
        samples: list[GaugeSample] = []
        for at, account in enumerate(accounts):
            holder, pace = told[account], pace_per_s(days[at], now_s)
            for _, i, period in BUDGETS:
                if (limit := holder.limits[i]) is None:
                    continue
                found = spent[period][at][0]
                used = 0 if found is None else found.microusd
                left_s = period.end_us(numbers[period]) / MICRO - now_s
                for figure, microusd in (("limit", limit), ("spent", used), ("forecast", forecast(used, pace, left_s))):
                    labels = (holder.scope.name, holder.name, period.name, figure)
                    samples.append(GaugeSample("router_budget_usd", labels, microusd / MICRO))
        self._samples = samples

    def samples(self) -> Iterator[GaugeSample]:
        return iter(self._samples)
