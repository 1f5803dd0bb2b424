"""How much the requests of an account have taken lately."""

from __future__ import annotations

import pytest

from router.core.limits import Amounts, cost
from router.store.appetite import GONE, ROLL_S, Appetite


def at_a_rate(per_s: int, seconds: float) -> tuple[Appetite, float]:
    mine, now_s = Appetite(0.0), 0.0
    while now_s < seconds:
        mine.let_in += [cost(Amounts(1, 100))] * int(per_s * ROLL_S)
        now_s += ROLL_S + 1e-9
        assert mine.measure(now_s)
    return mine, now_s


def test_a_steady_rate_is_measured() -> None:
    mine, now_s = at_a_rate(100, 3.0)
    assert mine.requests == pytest.approx(100, rel=0.02)
    assert mine.rates[1] == pytest.approx(10_000, rel=0.02)
    assert not mine.measure(now_s + ROLL_S / 2)


def test_a_pause_that_chance_does_not_explain_ends_the_demand_at_once() -> None:
    mine, now_s = at_a_rate(100, 3.0)
    assert mine.measure(now_s + (GONE + 1) / 100 + ROLL_S)
    assert mine.requests == 0


def test_a_short_pause_of_a_slow_key_fades() -> None:
    mine, now_s = at_a_rate(10, 3.0)
    assert mine.measure(now_s + 0.5)
    assert 0 < mine.requests < 10
