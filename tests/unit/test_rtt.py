"""The round trip: its mean, its floor."""

from __future__ import annotations

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

    def test_the_floor_is_the_minimum_of_a_window(self) -> None:
        rtt = RttEstimate(PARAMS)
        rtt.add(0.010, 0.0)
        for i in range(1, 31):
            rtt.add(0.100, float(i))
        assert rtt.floor_s == 0.010
        for i in range(31, 91):
            rtt.add(0.100, float(i))
        assert rtt.floor_s == 0.100, "the route has changed"
