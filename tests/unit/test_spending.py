"""The arithmetic of what was spent: sums, thresholds, pace and forecast."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from router.core.spending import (
    DAY_S,
    OTHERS,
    THRESHOLDS,
    AccountSpent,
    Book,
    Charged,
    Spender,
    Sums,
    forecast,
    pace_per_s,
)

ACME = Spender("acme", "key_1", "trial", "m")


def test_rows_add_up_and_are_bounded() -> None:
    book = Book()
    for number in range(10):
        spender = ACME._replace(key_id=f"key_{number % 5}")
        book.add({spender: Sums(1, 10, 2, 7)}, (), 0, rows_max=3)
    assert book.rows.keys() == {ACME._replace(key_id=f"key_{n}") for n in range(3)} | {OTHERS}
    assert book.rows[OTHERS] == Sums(4, 40, 8, 28)
    assert sum(sums.microusd for sums in book.rows.values()) == 70


def test_accounts_are_bounded_and_those_that_are_there_go_on() -> None:
    book = Book()
    book.add({}, [Charged("a", 1, 10), Charged("b", 1, 10)], 5, accounts_max=1)
    assert [c.percent for c in book.add({}, [Charged("a", 9, 10), Charged("b", 9, 10)], 6, accounts_max=1)] == [
        50,
        80,
        100,
    ]
    assert book.accounts == {"a": AccountSpent(10, 5, 100)}


def test_a_refusal_means_that_all_of_a_budget_is_used() -> None:
    book = Book()
    assert [c.percent for c in book.add({}, [Charged("a", 60, 100)], 0)] == [50]
    assert [c.percent for c in book.add({}, [Charged("a", 0, 100, refused=True)], 0)] == [80, 100]
    assert book.add({}, [Charged("a", 50, 100, refused=True)], 0) == []


def test_no_budget_has_no_threshold() -> None:
    assert Book().add({}, [Charged("a", 10**12, None, refused=True)], 0) == []


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.integers(1, 1000)), max_size=30))
def test_each_threshold_is_announced_once_and_when_it_is_reached(told: list[tuple[int, bool, int]]) -> None:
    """Also when the limit changes meanwhile."""
    book, announced, total = Book(), list[int](), 0
    for microusd, refused, limit in told:
        total += microusd
        found = [c.percent for c in book.add({}, [Charged("a", microusd, limit, refused)], 0)]
        reached = [p for p in THRESHOLDS if refused or total >= limit * p / 100]
        assert set(found) == set(reached) - set(announced) - {p for p in THRESHOLDS if p < max(announced, default=0)}
        announced += found
    assert all(a < b for a, b in pairwise(announced))


def test_the_pace_is_that_of_the_last_days() -> None:
    now_s = 100 * DAY_S + 43_200
    week: list[AccountSpent | None] = [AccountSpent(700, 94 * DAY_S + 5)] * 7
    assert pace_per_s(week, now_s) == 4900 / (6.5 * DAY_S)
    assert pace_per_s([None] * 7, now_s) == 0.0


def test_a_young_account_has_the_pace_of_its_own_time() -> None:
    now_s = 100 * DAY_S + 43_200
    two_hours: list[AccountSpent | None] = [*[None] * 6, AccountSpent(7200, now_s - 7200)]
    assert pace_per_s(two_hours, now_s) == 1.0
    a_minute: list[AccountSpent | None] = [*[None] * 6, AccountSpent(3600, now_s - 60)]
    assert pace_per_s(a_minute, now_s) == 1.0, "an hour at least: one request says little"


def test_a_forecast_is_what_is_used_and_the_pace_of_the_rest() -> None:
    assert forecast(10.0, 0.5, 20.0) == 20.0
    assert forecast(10.0, 0.5, -3.0) == 10.0
