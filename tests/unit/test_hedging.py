"""Hedges: when a first token is late, where a second attempt goes, and that there are never many."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.course import Course
from router.core.fleet import Fleet
from router.core.hedging import Hedging, Punctuality
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import make_policy
from router.core.traits import Continues
from router.core.types import Lease
from tests.support.effort import examples
from tests.support.fleets import MODEL, ask, fleet_of

RNG = random.Random(1)
NAMES = ("us-east/a", "us-east/b", "us-east/c", "us-east/d")
NEVER_S = float("inf")


class Hedged:
    """A fleet whose requests are hedged."""

    def __init__(self, *names: str, share: float = 0.05, floor_s: float = 0.2, policy: str = "round_robin") -> None:
        self.fleet: Fleet = fleet_of(*(names or NAMES))
        self.policy = make_policy(policy, self.fleet.params)
        self.hedging = Hedging(self.fleet, share=share, floor_s=floor_s)
        self.now_s = 0.0

    def course(self, **changes: Any) -> Course:
        return Course(self.fleet, self.policy, ask(arrival_s=self.now_s, **changes), (MODEL,))

    def go(self, course: Course) -> tuple[Lease, float]:
        """An attempt, and when it is to be hedged."""
        lease = course.next(self.now_s, RNG).lease  # type: ignore[union-attr]
        return lease, self.hedging.sent(lease)

    def serve(self, times: int, takes_s: float = 0.1, slow: frozenset[str] = frozenset(), slow_s: float = 0.0) -> None:
        """That many requests, one after the other."""
        for _ in range(times):
            lease, _ = self.go(self.course())
            self.now_s += slow_s if lease.backend in slow else takes_s
            self.fleet.first_token(lease, self.now_s)
            self.hedging.came(lease, self.now_s)
            self.fleet.end(lease, Outcome.OK, self.now_s)

    def hang(self, **changes: Any) -> tuple[Course, Lease]:
        """A request whose first token does not come, and the time at which that is late."""
        course = self.course(**changes)
        lease, due_s = self.go(course)
        if due_s < NEVER_S:
            self.now_s = due_s + 0.01
        return course, lease

    def second(self, course: Course, lease: Lease) -> Lease | None:
        decision = self.hedging.second(course, lease, self.now_s, RNG)
        return None if decision is None else decision.lease


def test_a_late_request_goes_to_another_backend_too() -> None:
    world = Hedged()
    world.serve(100)
    course, lease = world.hang()
    second = world.second(course, lease)
    assert second is not None
    assert second.backend != lease.backend
    assert {lease, second} == world.fleet.leases
    assert course.attempts == 2
    assert world.hedging.hedges_total == 1


def test_late_is_by_the_prediction_and_by_how_good_predictions_are() -> None:
    world = Hedged(floor_s=0.0)
    world.serve(400)
    lease, due_s = world.go(world.course())
    assert lease.predicted_ttft_s is not None
    assert 1.05 * lease.predicted_ttft_s < due_s - world.now_s < 2.5 * lease.predicted_ttft_s
    _, longer_s = world.go(world.course(prompt_tokens=20_000))
    assert longer_s - world.now_s > 2 * (due_s - world.now_s)
    assert Hedged(floor_s=5.0).go(Hedged(floor_s=5.0).course())[1] == 5.0


@pytest.mark.parametrize(
    "changes",
    [{"stream": False}, {"light": True}, {"pin_backend": "us-east/a"}, {"continues": Continues.TEXT}],
    ids=lambda changes: next(iter(changes)),
)
def test_some_requests_are_never_hedged(changes: dict[str, Any]) -> None:
    world = Hedged()
    assert world.go(world.course(**changes))[1] == NEVER_S


def test_a_retry_and_what_killed_an_engine_are_not_hedged() -> None:
    world = Hedged()
    world.serve(100)
    course = world.course()
    first, _ = world.go(course)
    world.fleet.end(first, Outcome.UNREACHABLE, world.now_s)
    assert course.failed(first.backend, Outcome.UNREACHABLE, world.now_s, died=True) is None
    again, due_s = world.go(course)
    assert due_s == NEVER_S
    assert course.beside(again.backend, world.now_s, RNG) is None


def test_attempts_stay_limited() -> None:
    world = Hedged()
    world.fleet.params = replace(world.fleet.params, attempts_max=1)
    world.serve(100)
    course, lease = world.hang()
    assert world.second(course, lease) is None


def test_residency_holds_for_hedges() -> None:
    world = Hedged("us-east/a", "us-east/b", "eu-west/a")
    world.serve(100)
    course, lease = world.hang(residency=frozenset({"eu"}))
    assert lease.backend == "eu-west/a"
    assert world.second(course, lease) is None


def test_the_budget_is_earned_by_attempts() -> None:
    world = Hedged(share=0.05)
    world.serve(19)
    course, lease = world.hang()  # the twentieth
    assert world.hedging.saved == pytest.approx(1.0)
    assert world.second(course, lease) is not None
    another = world.hang()
    assert world.second(*another) is None


def test_where_all_are_slow_nobody_is_hedged() -> None:
    world = Hedged(share=1.0)
    world.serve(200)
    world.serve(12, takes_s=3.0)
    course, lease = world.hang()
    assert world.second(course, lease) is None


def test_one_slow_backend_of_four_is_hedged_and_gets_no_hedges() -> None:
    world = Hedged(share=1.0)
    world.serve(200)
    world.serve(20, slow=frozenset({"us-east/c"}), slow_s=3.0)
    for _ in range(20):
        course, lease = world.hang()
        second = world.second(course, lease)
        assert second is not None
        assert second.backend != "us-east/c"
        for ended in (lease, second):
            world.fleet.end(ended, Outcome.SUPERSEDED, world.now_s)
        world.serve(4, slow=frozenset({"us-east/c"}), slow_s=3.0)


def test_no_hedge_where_it_would_wait_or_make_others_wait() -> None:
    world = Hedged("us-east/a", "us-east/b")
    world.serve(100)
    course, lease = world.hang()
    for _ in range(8):
        world.course(prompt_tokens=50_000, pin_region="us-east").next(world.now_s, RNG)
    assert world.second(course, lease) is None


def test_a_frozen_backend_is_found_out_though_its_requests_are_answered_elsewhere() -> None:
    """Aborted first tokens leave no sample: that others were quicker must count as what it is."""
    fleet = fleet_of("us-east/a")
    b = fleet.backends["us-east/a"]
    policy = make_policy("round_robin", fleet.params)
    for i in range(3):
        lease = Course(fleet, policy, ask(arrival_s=i), (MODEL,)).next(float(i), RNG).lease  # type: ignore[union-attr]
        fleet.end(lease, Outcome.SUPERSEDED, i + 0.9)
    assert b.prompts.overdue(2.0, b.health.last_token_s) == 3
    assert b.prompts.late_s(9.0, b.health.last_token_s) == pytest.approx(2.86, abs=0.03)
    assert b.prompts.overdue(2.0, 1.0) == 0, "a token came meanwhile"


@examples(2)
@given(st.lists(st.floats(0.2, 30.0), max_size=200))
def test_the_learned_factor_stays_in_its_bounds(factors: list[float]) -> None:
    params = Params()
    known = Punctuality(params)
    for i, factor in enumerate(factors):
        known.add(factor, late=factor > 3.0, now_s=float(i))
        assert (
            params.hedge_least_factor <= 1.0001 * 2.718281828459045**known.late_log <= 1.001 * params.hedge_most_factor
        )


def test_nineteen_of_twenty_are_below_the_learned_factor() -> None:
    rng = random.Random(2)
    known, above = Punctuality(Params()), 0
    for i in range(4000):
        factor = rng.lognormvariate(0.0, 0.5)
        above += i >= 1000 and factor > 2.718281828459045**known.late_log
        known.add(factor, late=False, now_s=0.0)
    assert 0.035 < above / 3000 < 0.065


@examples(2)
@given(
    share=st.sampled_from([0.0, 0.05, 0.3]),
    steps=st.lists(st.tuples(st.booleans(), st.sampled_from([0.05, 0.1, 2.0])), max_size=120),
    policy=st.sampled_from(["ttft", "round_robin", "p2c"]),
)
def test_whatever_comes_hedges_stay_within_their_share(
    share: float, steps: list[tuple[bool, float]], policy: str
) -> None:
    world, attempts, hedges = Hedged(share=share, policy=policy), 0, 0
    for hangs, takes_s in steps:
        if hangs:
            course, lease = world.hang()
            attempts += 1
            second = world.second(course, lease)
            if second is not None:
                hedges += 1
                attempts += 1
                assert second.backend != lease.backend
                world.hedging.came(second, world.now_s)
                world.fleet.end(second, Outcome.OK, world.now_s)
            world.hedging.lost(lease, world.now_s)
            world.fleet.end(lease, Outcome.SUPERSEDED, world.now_s)
        else:
            world.serve(1, takes_s)
            attempts += 1
        assert hedges <= share * attempts
        assert hedges == world.hedging.hedges_total
    assert not world.fleet.leases
    world.fleet.audit()


def test_a_backend_that_is_late_is_not_waited_for_ever_longer() -> None:
    """Its lateness is part of what is predicted for it, and must not be part of when that is late."""
    world = Hedged("us-east/a", "us-east/b", share=1.0)
    world.serve(100)
    waits_s = []
    for _ in range(6):
        _, lease = world.hang(pin_region="us-east")
        while lease.backend != "us-east/a":
            world.hedging.came(lease, lease.started_s + 0.05)
            world.fleet.first_token(lease, world.now_s)
            world.fleet.end(lease, Outcome.OK, world.now_s)
            _, lease = world.hang()
        waits_s.append(world.now_s - lease.started_s)
        world.now_s += 1.0
        world.hedging.lost(lease, world.now_s)
        world.fleet.end(lease, Outcome.SUPERSEDED, world.now_s)
    assert waits_s[-1] < 3 * waits_s[0]
