"""Where a rate is going: growth is believed when it is steeper than chance, and never a fall."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.forecast import Trend
from router.core.params import Params

PARAMS = Params()


def seen(*values: float, every_s: float = 2.0) -> Trend:
    trend = Trend(PARAMS)
    for i, value in enumerate(values):
        trend.add(value, i * every_s)
    return trend


def test_a_straight_line_goes_on() -> None:
    trend = seen(*(10.0 + 0.2 * i for i in range(60)))  # 0.1 per second
    assert trend.slope == pytest.approx(0.1)
    assert trend.growth(30.0) == pytest.approx(1.0 + 3.0 / 21.8)


def test_it_never_promises_more_than_twice_as_much() -> None:
    assert seen(*(float(i) for i in range(60))).growth(600.0) == 2.0


@pytest.mark.parametrize("values", [[], [5.0], [5.0] * 60, [10.0 - 0.1 * i for i in range(60)], [0.0] * 60])
def test_what_does_not_grow_stays(values: list[float]) -> None:
    assert seen(*values).growth(90.0) == 1.0


def test_a_moment_is_no_trend() -> None:
    assert seen(1.0, 5.0, 9.0, 12.0).growth(90.0) == 1.0


def test_noise_is_no_trend_and_a_wave_is() -> None:
    rng = random.Random(3)
    noisy = [10.0 + rng.gauss(0.0, 1.0) for _ in range(90)]
    assert seen(*noisy).growth(90.0) < 1.1
    rising = [value + 0.1 * i for i, value in enumerate(noisy)]
    assert seen(*rising).growth(90.0) > 1.15


def test_what_is_older_than_the_window_is_forgotten() -> None:
    trend = seen(*(0.1 * i for i in range(100)))
    for i in range(int(PARAMS.trend_s)):
        trend.add(10.0, 200.0 + i)
    assert trend.growth(90.0) == 1.0


@given(st.lists(st.floats(0.0, 1e4), max_size=40), st.floats(0.0, 3600.0))
def test_always_between_once_and_twice(values: list[float], ahead_s: float) -> None:
    assert 1.0 <= seen(*values).growth(ahead_s) <= 2.0


def test_two_values_at_one_time_count_once() -> None:
    trend = Trend(PARAMS)
    for _ in range(10):
        trend.add(5.0, 1.0)
    trend.add(7.0, 1.0)
    assert trend.growth(90.0) == 1.0
