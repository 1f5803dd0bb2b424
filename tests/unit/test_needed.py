"""How many backends keep first tokens in time: the prediction, the smallest number, and what is asked for of it."""

from __future__ import annotations

from dataclasses import replace
from math import inf, log

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from router.core.needed import (
    BACKENDS_MAX,
    REASONS,
    Asked,
    Goal,
    Needed,
    holds,
    least_that_holds,
    reachable_s,
    ttft_p95_s,
)
from router.core.params import Params
from tests.support.effort import examples

PARAMS = Params()
#: 20 requests a second of 100 ms of prefill each: two engines' work
BUSY = Asked(
    backends=3,
    per_s=20.0,
    work_s=0.1,
    work_square=0.015,
    base_s=0.05,
    busy_s=0.001,
    answer_s=4.0,
    answer_busy_s=0.002,
    inflight=90.0,
    places=64.0,
)
GOAL = Goal(target_ttft_s=1.0, hold_s=60.0, cold_start_s=30.0)


@st.composite
def loads(draw: st.DrawFn) -> Asked:
    work_s = draw(st.floats(0.001, 5.0))
    return Asked(
        backends=draw(st.integers(0, 20)),
        per_s=draw(st.floats(0.0, 50.0)),
        work_s=work_s,
        work_square=work_s * work_s * draw(st.floats(1.0, 8.0)),
        base_s=draw(st.floats(0.0, 0.5)),
        busy_s=draw(st.floats(0.0, 0.01)),
        answer_s=draw(st.floats(0.01, 30.0)),
        answer_busy_s=draw(st.floats(0.0, 0.1)),
        inflight=draw(st.floats(0.0, 500.0)),
        places=draw(st.one_of(st.just(inf), st.floats(1.0, 512.0))),
        kv_ratio=draw(st.one_of(st.none(), st.floats(0.0, 1.0))),
        waiting=draw(st.floats(0.0, 300.0)),
    )


#: few requests wait for a place, and those for long
SKEWED = Asked(backends=3, per_s=5.0, work_s=0.001, work_square=1e-6, answer_s=2.0, places=4.0)


@examples(3)
@given(loads(), st.integers(1, 60))
@example(SKEWED, 7)
def test_more_backends_are_never_slower(asked: Asked, backends: int) -> None:
    fewer, more = ttft_p95_s(asked, backends), ttft_p95_s(asked, backends + 1)
    assert more <= fewer * (1 + 1e-9)


@examples(3)
@given(loads(), st.integers(1, 60), st.floats(1.0, 3.0))
def test_more_requests_are_never_faster(asked: Asked, backends: int, times: float) -> None:
    assert ttft_p95_s(asked.times(times), backends) >= ttft_p95_s(asked, backends) * (1 - 1e-9)


def test_one_engine_that_is_hardly_busy_takes_what_a_request_takes() -> None:
    asked = Asked(1, 0.01, 0.2, 0.04, base_s=0.1, answer_s=1.0)
    assert ttft_p95_s(asked, 1) == pytest.approx(0.3, rel=0.05)


def test_the_wait_is_that_of_a_queue() -> None:
    """M/M/1 at 80 %: the time in it is exponential with the mean work / (1 - 0.8)."""
    asked = Asked(1, 8.0, 0.1, 0.02)
    assert ttft_p95_s(asked, 1) == pytest.approx(0.5 * log(20), rel=0.05)


def test_more_than_they_can_do() -> None:
    assert ttft_p95_s(BUSY, 2) == inf  # busy all the time
    assert ttft_p95_s(BUSY, 0) == inf
    assert ttft_p95_s(replace(BUSY, answer_busy_s=0.2), 3) == inf  # answers slow each other down without end
    assert ttft_p95_s(replace(BUSY, places=8.0), 3) == inf  # 20 a second for 4 s each do not fit into 24 places


@examples(3)
@given(loads(), st.floats(0.05, 10.0))
def test_the_smallest_number_that_holds(asked: Asked, within_s: float) -> None:
    found = least_that_holds(asked, within_s, PARAMS, 200)
    assert 1 <= found <= 200
    assert found == 200 or holds(asked, found, within_s, PARAMS)
    assert found == 1 or not holds(asked, found - 1, within_s, PARAMS)


def test_the_cache_of_those_that_stay_must_hold_all() -> None:
    light = Asked(4, 1.0, 0.01, 1e-4, answer_s=1.0, inflight=8.0, kv_ratio=0.6)
    assert least_that_holds(light, 5.0, PARAMS) == 3  # 4 * 0.6 in 3 is 0.8, in 2 it would be 1.2


@given(loads())
def test_a_target_that_nothing_could_keep_becomes_one_that_can_be_kept(asked: Asked) -> None:
    assume(asked.answer_busy_s < 0.05)
    within_s = reachable_s(asked, 1e-6)
    light = replace(asked, per_s=min(asked.per_s, 5.0), kv_ratio=None)
    any_number = 1_000_000  # more than BACKENDS_MAX, where a prompt takes less than others in the engine add
    assert holds(light, least_that_holds(light, within_s, PARAMS, any_number), within_s, PARAMS)


class Watch:
    """Looks every 2 s."""

    def __init__(self, goal: Goal = GOAL) -> None:
        self.goal, self.needed, self.now_s = goal, Needed(PARAMS), 0.0

    def look(self, asked: Asked, for_s: float = 0.0, old: int = 0) -> int:
        until_s = self.now_s + for_s
        while True:
            found = self.needed.look(self.goal, asked, old, self.now_s)
            assert self.needed.reason in REASONS
            self.now_s += 2.0
            if self.now_s > until_s:
                return found


def test_more_at_once() -> None:
    watch = Watch()
    assert watch.look(replace(BUSY, per_s=5.0, inflight=20.0)) == 3  # what there is, to begin with
    assert watch.look(replace(BUSY, per_s=60.0, inflight=270.0)) >= 7
    assert watch.needed.reason == "load"


def test_fewer_only_after_a_while_and_with_room_to_spare() -> None:
    watch = Watch()
    high = watch.look(replace(BUSY, per_s=60.0, inflight=270.0))
    low = replace(BUSY, backends=high, per_s=10.0, inflight=40.0)
    assert watch.look(low, 50.0) == high
    assert watch.needed.reason == "held"
    after = watch.look(low, 20.0)
    assert after < high
    assert ttft_p95_s(low, after) <= PARAMS.needed_spare_ratio * GOAL.target_ttft_s


@pytest.mark.parametrize("late_s", [2.0, 200.0])
def test_backends_that_a_router_hears_of_late_are_kept_like_those_it_knows_at_first(late_s: float) -> None:
    """A router that was just started asks for no fewer than run before it has seen for a while that fewer would do."""
    watch = Watch()
    nobody = Asked(0, 0.0, 0.1, 0.01)
    watch.look(nobody, late_s)
    five = replace(nobody, backends=5)
    assert watch.look(five) == 5
    assert watch.needed.reason == "held"
    assert watch.look(five, 50.0) == 5
    assert watch.look(five, 30.0) == 1


def test_backends_that_come_one_after_the_other_are_kept_too() -> None:
    watch = Watch()
    for there in range(6):
        assert watch.look(Asked(there, 0.0, 0.1, 0.01)) == max(1, there)


def test_no_more_are_kept_than_the_configured_most() -> None:
    watch = Watch(replace(GOAL, most=3))
    watch.look(Asked(0, 0.0, 0.1, 0.01))
    assert watch.look(Asked(5, 0.0, 0.1, 0.01)) == 3


def test_a_load_at_the_edge_does_not_flap() -> None:
    watch = Watch()
    edge = least_that_holds(BUSY, 1.0, PARAMS)
    up = next(n for n in range(10, 400) if least_that_holds(replace(BUSY, per_s=n / 10), 1.0, PARAMS) > edge) / 10
    found = set()
    for i in range(300):
        found.add(watch.look(replace(BUSY, backends=edge, per_s=up + (0.05 if i % 2 else -0.05))))
    assert len(found) <= 2
    assert found == {max(found)} or min(found) == 3


def test_never_fewer_than_hold_the_requests_that_run() -> None:
    watch = Watch()
    asked = Asked(5, 0.0, 0.1, 0.01, answer_s=100.0, inflight=150.0, places=64.0)
    assert watch.look(asked, 200.0) == 3
    assert watch.needed.reason == "streams"


def test_nor_than_run_old_ones() -> None:
    watch = Watch()
    asked = Asked(5, 0.0, 0.1, 0.01, answer_s=100.0, inflight=5.0, places=64.0)
    assert watch.look(asked, 200.0, old=4) == 4
    assert watch.look(asked, 200.0, old=0) == 1


@pytest.mark.parametrize(("per_s", "expected", "reason"), [(0.5, 2, "min"), (200.0, 6, "max")])
def test_within_what_is_configured(per_s: float, expected: int, reason: str) -> None:
    watch = Watch(replace(GOAL, least=2, most=6))
    assert watch.look(replace(BUSY, per_s=per_s, inflight=1.0), 100.0) == expected
    assert watch.needed.reason == reason


def test_none_after_the_idle_time_where_the_least_is_none() -> None:
    watch = Watch(replace(GOAL, least=0, idle_s=120.0))
    assert watch.look(BUSY) >= 3
    idle = Asked(3, 0.0, 0.1, 0.01)
    assert watch.look(idle, 100.0) == 1
    assert watch.look(idle, 30.0) == 0
    assert watch.needed.reason == "idle"
    assert watch.look(replace(idle, backends=0, waiting=3.0)) == 1


def test_with_a_least_of_one_it_is_never_none() -> None:
    assert Watch().look(Asked(1, 0.0, 0.1, 0.01), 3000.0) == 1


def test_requests_that_wait_are_worked_off() -> None:
    asked = replace(BUSY, per_s=5.0, inflight=20.0)
    assert Watch().look(replace(asked, waiting=1000.0)) > Watch().look(asked)


def test_a_wave_is_met_before_it_is_there() -> None:
    watch = Watch(replace(GOAL, cold_start_s=90.0))
    for i in range(60):
        asked = replace(BUSY, per_s=10.0 + 0.2 * i, inflight=40.0 + i)
        watch.look(asked)
    assert watch.needed.backends > watch.needed.now
    assert watch.needed.reason == "trend"


def test_a_target_out_of_reach_asks_for_what_helps_and_not_for_all() -> None:
    watch = Watch(replace(GOAL, target_ttft_s=0.01))
    assert 3 <= watch.look(BUSY) < 30
    assert watch.needed.reason == "unreachable"
    assert watch.needed.within_s > 0.01


@examples(2)
@given(st.lists(st.tuples(loads(), st.integers(0, 5), st.floats(0.1, 200.0)), min_size=1, max_size=12))
def test_always_within_bounds(looks: list[tuple[Asked, int, float]]) -> None:
    goal = Goal(1.0, 1, 12, hold_s=30.0)
    needed, now_s = Needed(PARAMS), 0.0
    for asked, old, pause_s in looks:
        found = needed.look(goal, asked, old, now_s)
        assert 1 <= found <= 12
        assert found >= min(12, old)
        assert found >= min(12, asked.inflight / asked.places - 1e-6)
        assert needed.reason in REASONS
        now_s += pause_s
    assert least_that_holds(Asked(1, 1e6, 1.0, 1.0), 1.0, PARAMS) == BACKENDS_MAX
