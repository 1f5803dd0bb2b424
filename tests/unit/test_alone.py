"""Decisions of a router by itself: nothing, its share, or whatever is asked; always from where the account stood."""

from __future__ import annotations

import itertools

import pytest

from router.config import Plan
from router.core.limits import INDEX, NOTHING, Amounts, cost
from router.core.quota import Standing
from router.store.alone import Alone
from router.store.base import Refusal, Reservation
from router.store.purse import Purse
from router.store.quota_file import QuotaFile

NOW_US = 1_800_000_000_000_000
PLAN = Plan("p", requests_per_minute=60, concurrent=8)


class Two:
    routers = 2
    ever_up = True

    def server_us(self, now_s: float) -> int:
        return NOW_US + int(now_s * 1e6)


def purse(seen: dict[str, int] | None = None) -> Purse:
    serial = itertools.count()
    mine = Purse("k1", PLAN, 0.0, lambda: f"s{next(serial)}")
    if seen is not None:
        used = list(NOTHING)
        for name, units in seen.items():
            used[INDEX[name]] = units
        mine.note(Standing(NOW_US, tuple(used)), 0.0)
    return mine


def alone_of(on_down: str = "share", sharers: Two | None = None) -> Alone:
    return Alone(on_down, sharers or Two(), QuotaFile(None, wall_s=lambda: 0.0), lease_s=15.0)


def admitted(on_down: str, mine: Purse, now_s: float, times: int = 100) -> int:
    alone, let_in = alone_of(on_down), 0
    for _ in range(times):
        answer = alone.decide(mine, cost(Amounts(1)), "r", now_s)
        if isinstance(answer, Reservation):
            let_in += 1
            mine.put_back(answer.cost, answer.cost, answer.slot)
    return let_in


@pytest.mark.parametrize(("on_down", "let_in"), [("deny", 0), ("share", 30), ("allow", 100)])
def test_the_policy_decides(on_down: str, let_in: int) -> None:
    assert admitted(on_down, purse({}), 0.0) == let_in


def test_a_share_continues_from_where_the_account_stood() -> None:
    mine = purse({"requests": 40_000_000})
    assert admitted("share", mine, 0.0) == 10
    assert admitted("share", mine, 10.0) == 5, "half of what the rate gives"
    assert admitted("share", mine, 1000.0) == 30


def test_places_are_shared_from_where_the_account_stood() -> None:
    alone = alone_of()

    def at_once(mine: Purse, now_s: float) -> int:
        answers = [alone.decide(mine, cost(Amounts(1)), "r", now_s) for _ in range(20)]
        return sum(isinstance(a, Reservation) for a in answers)

    assert at_once(purse({}), 1.0) == 4
    assert at_once(purse({"concurrent": 8}), 1.0) == 0, "all were taken a moment ago"
    assert at_once(purse({"concurrent": 8}), 20.0) == 4, "those that had them are gone or renewed elsewhere"
    assert at_once(purse({"concurrent": 4}), 1.0) == 2
    refused = alone.decide(purse({"concurrent": 8}), cost(Amounts(1)), "r", 1.0)
    assert isinstance(refused, Refusal)
    assert refused.limit == "concurrent"
