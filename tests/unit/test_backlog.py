"""How fast work that waits is done."""

from __future__ import annotations

import pytest

from router.core.learn.backlog import Backlog, common_speed
from router.core.params import Params

PARAMS = Params()


def settle(backlogs: list[Backlog], now_s: float) -> None:
    common = common_speed([backlog.fade(now_s) for backlog in backlogs], PARAMS)
    for backlog in backlogs:
        backlog.settle(common)


class TestBacklog:
    def test_it_starts_at_full_speed(self) -> None:
        assert Backlog(PARAMS).speed == 1.0

    def test_waiting_longer_than_the_work_takes_is_slow(self) -> None:
        backlog = Backlog(PARAMS)
        for i in range(30):
            backlog.waited(0.5, 2.0, i * 0.1)
        settle([backlog], 3.0)
        assert backlog.speed == pytest.approx(0.31, abs=0.05)

    def test_it_recovers_and_stays_within_bounds(self) -> None:
        backlog = Backlog(PARAMS)
        for i in range(30):
            backlog.waited(0.1, 60.0, i * 0.1)
        assert backlog.speed == PARAMS.speed_min_ratio
        for i in range(40):
            backlog.waited(1.0, 1.0, 3.0 + i * 0.1)
        assert backlog.speed == pytest.approx(1.0, abs=0.1)
        for i in range(40):
            backlog.waited(50.0, 0.0, 10.0 + i * 0.1)
        assert backlog.speed == PARAMS.speed_max_factor

    def test_one_that_nobody_is_sent_to_any_more_does_not_stay_slow(self) -> None:
        avoided, quick = Backlog(PARAMS), Backlog(PARAMS)
        for i in range(30):
            avoided.waited(0.5, 2.0, i * 0.1)
        for i in range(400):
            quick.waited(1.0, 1.0, i * 0.1)
        settle([avoided, quick], 3.0)
        assert avoided.speed < 0.45
        settle([avoided, quick], 40.0)
        assert avoided.speed == pytest.approx(quick.speed, abs=0.1)

    def test_what_others_meet_is_expected_where_nothing_was_met(self) -> None:
        backlogs = [Backlog(PARAMS) for _ in range(4)]
        for i in range(30):
            for backlog in backlogs[:3]:
                backlog.waited(0.5, 2.0, i * 0.1)
        settle(backlogs, 3.0)
        assert backlogs[3].speed == pytest.approx(backlogs[0].speed, rel=0.1)
