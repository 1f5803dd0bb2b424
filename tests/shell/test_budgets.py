"""Budgets as metrics: of which accounts, and how they stand."""

from __future__ import annotations

from typing import Any

import pytest

from router.control.budgets import ACCOUNTS_MAX, BUDGETS, Budgeted, Budgets
from router.core.limits import KINDS, MICRO, Limits
from router.core.periods import DAY_US, MONTH
from router.core.scopes import ALL, KEY, TENANT, Scope
from router.core.spending import DAY_S, AccountSpent, Charged
from router.store.base import Store
from router.store.courier import LinkError
from router.store.memory import MemoryStore
from router.store.spend_book import Batch, MemorySpendBook

NOON_S = 20_000 * DAY_S + DAY_S / 2


def limits(**usd: float) -> Limits:
    """``month`` or ``day``, in dollars."""
    values = {i: round(usd[period.name] * MICRO) for _, i, period in BUDGETS if period.name in usd}
    return Limits(*(values.get(i) for i in range(len(KINDS))))


def holder(account: str, scope: Scope = KEY, **usd: float) -> Budgeted:
    return Budgeted(account, scope, account, None, None, limits(**usd))


def store(book: MemorySpendBook) -> Store:
    made = MemoryStore({}, monotonic_s=lambda: 0.0, wall_s=lambda: NOON_S)
    made.spending = book
    return made


async def spend(book: MemorySpendBook, account: str, usd: float, *, day: int = 20_000) -> None:
    charged = {p.name: (Charged(account, round(usd * MICRO), None, False),) for _, _, p in BUDGETS}
    await book.add(Batch(f"{account}-{day}", day, {}, charged), day * DAY_S + 1.0)


def figures(budgets: Budgets) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in budgets.samples()}


async def test_limit_spent_and_forecast_of_each_period_that_has_a_budget() -> None:
    book = MemorySpendBook()
    budgets = Budgets(store(book))
    await spend(book, "key_1", 3.0)
    budgets.seen({"key_1": holder("key_1", month=100.0, day=10.0)})
    await budgets.look([], NOON_S)
    found = figures(budgets)
    assert {labels[2:] for labels in found} == {
        (p, f) for p in ("month", "day") for f in ("limit", "spent", "forecast")
    }
    assert found["key", "key_1", "day", "limit"] == 10.0
    assert found["key", "key_1", "day", "spent"] == 3.0
    assert found["key", "key_1", "day", "forecast"] == pytest.approx(6.0, rel=0.01), "half of the day is over"
    left_days = MONTH.end_us(MONTH.number(int(NOON_S * MICRO))) / DAY_US - NOON_S / DAY_S
    assert found["key", "key_1", "month", "forecast"] == pytest.approx(3.0 + 6.0 * left_days, rel=0.01)


class AwayBook(MemorySpendBook):
    away = False

    async def spent(self, *which: Any) -> list[list[AccountSpent | None]]:
        if self.away:
            raise LinkError("the store is away")
        return await super().spent(*which)


async def test_groups_are_there_before_they_spend_and_while_the_store_is_away_figures_stay() -> None:
    book = AwayBook()
    budgets = Budgets(store(book))
    groups = [holder("tenant:acme", TENANT, day=4.0), holder("all", ALL, month=7.0)]
    await budgets.look(groups, NOON_S)
    before = figures(budgets)
    assert before["tenant", "tenant:acme", "day", "spent"] == 0.0
    assert ("all", "all", "day", "limit") not in before
    book.away = True
    await budgets.look(groups, NOON_S + 60)
    assert figures(budgets) == before


async def test_groups_and_the_latest_spenders_are_told_of_and_no_more() -> None:
    budgets = Budgets(store(MemorySpendBook()))
    for n in range(ACCOUNTS_MAX + 50):
        budgets.seen({f"key_{n}": holder(f"key_{n}", day=1.0)})
    budgets.seen({"key_60": holder("key_60", day=1.0)})
    await budgets.look([holder("all", ALL, day=1.0)], NOON_S)
    names = {labels[1] for labels in figures(budgets)}
    assert len(names) == ACCOUNTS_MAX
    assert {"all", "key_60", "key_240"} <= names
    assert "key_0" not in names
