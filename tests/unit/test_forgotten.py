"""A purse remembers where its account stood, and tells a store that has lost it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.config import Plan
from router.core.limits import NAMES, NOTHING
from router.core.quota import Standing
from router.store.purse import Purse

MONEY = NAMES.index("budget")
MONEY = NAMES.index("budget")
NOW_US = 1_800_000_000_000_000
AFTER = Standing(NOW_US + 20, NOTHING, NOW_US + 10)


def test_where_an_account_stood_before_the_store_lost_it_is_told_once() -> None:
    purse = Purse("k1", Plan("p", requests_per_minute=60), 0.0, lambda: "s")
    before = Standing(NOW_US, (5_000_000, *NOTHING[1:]))
    purse.note(before, 0.0)
    purse.note(AFTER, 0.1)
    assert [purse.tell(), purse.tell()] == [before, AFTER]
    purse.note(AFTER._replace(now_us=NOW_US + 30), 0.2)
    assert purse.tell() == purse.standing
    purse.forget()
    assert purse.tell() is None


def _seen(used: int, at: int, born: int = 0) -> Standing:
    """Answer number ``at`` of an account that exists since number ``born``."""
    units = list(NOTHING)
    units[MONEY] = used
    return Standing(NOW_US + at, tuple(units), NOW_US + born)


def test_an_answer_that_was_overtaken_does_not_replace_the_later_one() -> None:
    purse = Purse("k1", Plan("p", budget_usd_month=1), 0.0, lambda: "s")
    purse.note(_seen(20, 2), 0.0)
    purse.note(_seen(10, 1), 0.1)
    assert purse.tell() == _seen(20, 2)


def test_an_answer_from_before_a_loss_is_told_even_if_it_comes_after_it() -> None:
    purse = Purse("k1", Plan("p", budget_usd_month=1), 0.0, lambda: "s")
    purse.note(_seen(10, 1), 0.0)
    purse.note(_seen(15, 5, born=4), 0.1)  # the store had heard of 10 only
    assert purse.tell() == _seen(10, 1)
    purse.note(_seen(20, 3), 0.2)
    assert [purse.tell(), purse.tell()] == [_seen(20, 3), _seen(15, 5, born=4)]


def test_a_clock_that_was_put_back_is_followed() -> None:
    purse = Purse("k1", Plan("p", budget_usd_month=1), 0.0, lambda: "s")
    purse.note(_seen(10, 0), 0.0)
    back = _seen(11, -3_600_000_000, born=-3_600_000_000)
    purse.note(back, 0.1)
    assert purse.standing == back


@given(order=st.permutations(range(8)), lost_at=st.integers(1, 7))
def test_whatever_the_order_of_answers_the_highest_use_is_told(order: list[int], lost_at: int) -> None:
    """Eight answers of an account whose use grows; the store loses it, and begins again from nothing."""
    purse = Purse("k1", Plan("p", budget_usd_month=1), 0.0, lambda: "s")
    answers = [_seen(10 * n, n) for n in range(lost_at)]
    answers += [_seen(10 * (n - lost_at), n, born=lost_at) for n in range(lost_at, 8)]
    for n in order:
        purse.note(answers[n], 0.0)
    told = [purse.tell(), purse.tell()]
    assert answers[7] in told
    assert answers[lost_at - 1] in told or answers[lost_at - 1].used[MONEY] <= answers[7].used[MONEY]
