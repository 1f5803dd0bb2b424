"""The arithmetic of what was spent: sums, thresholds, pace and forecast."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from router.core.spending import (
    DAY_S,
    LIMITS_MAX,
    OTHERS,
    THRESHOLDS,
    AccountSpent,
    Announced,
    Book,
    Charged,
    Seen,
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
    assert book.accounts == {"a": AccountSpent(10, 5, (Announced(10, 100),))}


def told(book: Book, microusd: int, limit: int | None = 100, refused: bool = False) -> list[int]:
    return [c.percent for c in book.add({}, [Charged("a", microusd, limit, refused)], 0)]


CHARGES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=20)


@given(CHARGES, CHARGES, st.permutations(range(3)), st.booleans())
def test_a_lost_book_goes_on_where_any_router_saw_it(
    before: list[tuple[int, int]], after: list[tuple[int, int]], order: list[int], noticed: bool
) -> None:
    """In whatever order routers tell what they saw: when all have told it nothing is missing and nothing counts twice;
    and if they tell it when they notice the loss, before they charge more, no threshold is announced twice."""
    lost, book, seen = Book(), Book(), dict[int, Seen]()
    found: list[int] = []

    def charge(of: Book, router: int, microusd: int, now_s: float) -> None:
        found.extend(c.percent for c in of.add({}, [Charged("a", microusd, 100, seen=seen.get(router))], now_s))
        seen[router] = Seen(of.records["a"][0], of.accounts["a"])

    for router, microusd in before:
        charge(lost, router, microusd, 0.0)
    knew = [router for router in order if router in seen]
    for router in knew if noticed else []:
        charge(book, router, 0, 1.0)
    for router, microusd in after:
        charge(book, router, microusd, 1.0)
    for router in knew:
        charge(book, router, 0, 1.0)
    total = sum(microusd for _, microusd in (*before, *after))
    assert set(found) == {percent for percent in THRESHOLDS if total >= percent}
    assert not noticed or len(found) == len(set(found))
    if seen:
        assert book.accounts["a"].microusd == total


def test_a_refusal_announces_nothing_while_most_of_a_budget_is_left() -> None:
    book = Book()
    assert told(book, 3, refused=True) == []
    assert told(book, 57, refused=True) == [50]
    assert told(book, 29, refused=True) == [80], "89 % are spent"
    assert told(book, 1, refused=True) == [100], "what is left is too little for requests"
    assert told(book, 50, refused=True) == []


def test_thresholds_come_when_they_are_reached_after_refusals() -> None:
    book = Book()
    assert [told(book, 0, refused=True) for _ in range(3)] == [[], [], []]
    assert [told(book, microusd) for microusd in (49, 1, 29, 1, 19, 1)] == [[], [50], [], [80], [], [100]]


def test_a_raised_budget_announces_again_what_is_not_spent_yet() -> None:
    book = Book()
    assert told(book, 100) == [50, 80, 100]
    assert told(book, 1, 200) == [], "50 % of the new one are passed already"
    assert [told(book, microusd, 200) for microusd in (58, 1, 40)] == [[], [80], [100]]
    assert told(book, 1, 1000) == []
    assert told(book, 299, 1000) == [50], "20 % were spent when it was raised"


def test_a_lowered_budget_announces_what_it_makes_passed() -> None:
    book = Book()
    assert told(book, 60) == [50]
    assert told(book, 0, 50) == [80, 100]


def test_limits_that_come_and_go_announce_once_each() -> None:
    """As while routers reload one after the other, or a JWT has now one plan and now another."""
    book = Book()
    assert told(book, 100) == [50, 80, 100]
    assert [told(book, 0, limit) for _ in range(3) for limit in (200, 100, None, 400)] == [[]] * 12
    assert [told(book, 100, 200), told(book, 0, 100), told(book, 0, 200)] == [[80, 100], [], []]


def test_limits_of_an_account_are_bounded() -> None:
    book = Book()
    for limit in range(1, 100):
        told(book, 1, limit)
    assert [each.limit for each in book.accounts["a"].told] == list(range(99, 99 - LIMITS_MAX, -1))


def test_no_budget_has_no_threshold() -> None:
    assert Book().add({}, [Charged("a", 10**12, None, refused=True)], 0) == []


SPENT = st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.sampled_from([100, 500, 1000])), max_size=30)


@given(SPENT)
def test_each_threshold_of_a_limit_is_announced_once_and_is_reached(spent: list[tuple[int, bool, int]]) -> None:
    book, announced, total = Book(), dict[int, list[int]](), 0
    for microusd, refused, limit in spent:
        total += microusd
        found = told(book, microusd, limit, refused)
        for percent in found:
            almost = refused and percent == 100 and total >= 0.9 * limit
            assert total >= limit * percent / 100 or almost
        announced.setdefault(limit, []).extend(found)
    for percents in announced.values():
        assert all(a < b for a, b in pairwise(percents))


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=30))
def test_no_threshold_of_a_limit_is_missed(spent: list[tuple[int, bool]]) -> None:
    book, announced, total = Book(), list[int](), 0
    for microusd, refused in spent:
        total += microusd
        announced += told(book, microusd, 1000, refused)
        assert set(announced) >= {percent for percent in THRESHOLDS if total >= 10 * percent}


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
