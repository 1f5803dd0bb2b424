"""A purse remembers where its account stood, and tells a store that has lost it."""

from __future__ import annotations

from router.config import Plan
from router.core.limits import NOTHING
from router.core.quota import Standing
from router.store.purse import Purse

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
