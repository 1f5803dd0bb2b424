"""The round trip: its mean, its floor."""

from __future__ import annotations

import random

import pytest

from router.core.decay import Ewma
from router.core.learn.rtt import RttEstimate
from router.core.params import Params

PARAMS = Params()


class TestRtt:
    def test_unknown_until_measured(self) -> None:
        rtt = RttEstimate(PARAMS)
        assert rtt.mean_s is None
        assert rtt.floor_s is None
        assert rtt.age_s(5.0) == float("inf")

    def test_the_mean_follows_a_change_within_seconds(self) -> None:
        rtt = RttEstimate(PARAMS)
        for i in range(100):
            rtt.add(0.010, float(i))
        for i in range(3):
            rtt.add(0.150, 100.0 + i)
        assert rtt.mean_s is not None
        assert rtt.mean_s > 0.1
        assert rtt.age_s(103.0) == 1.0

    @pytest.mark.parametrize(("before_s", "after_s"), [(0.010, 0.150), (0.150, 0.010)])
    def test_two_far_from_all_before_are_another_distance(self, before_s: float, after_s: float) -> None:
        rtt, rng = RttEstimate(PARAMS), random.Random(1)
        for i in range(10):
            rtt.add(before_s * rng.uniform(0.8, 1.2), float(i))
        rtt.add(after_s, 11.0)
        assert rtt.mean_s is not None
        assert abs(rtt.mean_s - before_s) < abs(rtt.mean_s - after_s), "one may be chance"
        rtt.add(after_s * 1.1, 12.0)
        assert rtt.mean_s == pytest.approx(after_s * 1.05)

    def test_one_spike_in_ten_moves_the_mean_no_more_than_a_plain_one(self) -> None:
        rtt, plain, rng = RttEstimate(PARAMS), Ewma(PARAMS.rtt_weight), random.Random(2)
        for i in range(3000):
            sample_s = 0.150 if i % 10 == 9 else 0.010 * rng.uniform(0.8, 1.2)
            rtt.add(sample_s, float(i))
            plain.add(sample_s)
            assert rtt.mean_s is not None
            assert plain.value is not None
            assert rtt.mean_s <= plain.value + 0.001

    @pytest.mark.parametrize("spread", [0.1, 0.3, 0.5, 0.9])
    def test_jitter_is_no_change_of_distance(self, spread: float) -> None:
        """The mean stays as near to the middle as a plain one with the same weight."""
        rtt, plain, rng = RttEstimate(PARAMS), Ewma(PARAMS.rtt_weight), random.Random(3)
        worst_s = worst_plain_s = 0.0
        for i in range(20_000):
            sample_s = 0.1 * rng.uniform(1 - spread, 1 + spread)
            rtt.add(sample_s, float(i))
            plain.add(sample_s)
            if i > 50:
                assert rtt.mean_s is not None
                assert plain.value is not None
                worst_s = max(worst_s, abs(rtt.mean_s - 0.1))
                worst_plain_s = max(worst_plain_s, abs(plain.value - 0.1))
        assert worst_s == pytest.approx(worst_plain_s)

    def test_the_floor_is_the_minimum_of_a_window(self) -> None:
        rtt = RttEstimate(PARAMS)
        rtt.add(0.010, 0.0)
        for i in range(1, 31):
            rtt.add(0.100, float(i))
        assert rtt.floor_s == 0.010
        for i in range(31, 91):
            rtt.add(0.100, float(i))
        assert rtt.floor_s == 0.100, "the route has changed"
