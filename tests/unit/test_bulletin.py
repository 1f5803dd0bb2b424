"""What backends announce: that the filters must look again, who is full, who went silent."""

from __future__ import annotations

import random

from router.core.bulletin import CHANGES_MAX
from router.core.decisions import Dispatch, Wait
from router.core.health import Event, State
from router.core.outcomes import Outcome
from tests.support.fleets import Driver, ask, fleet_of, spec

A, B = "us-east/a", "us-west/a"


def test_a_backend_is_listed_as_full_as_long_as_it_is() -> None:
    driver = Driver(fleet_of(A, max_inflight=2))
    bulletin, backend = driver.fleet.bulletin, driver.fleet.backends[A]
    leases = [driver.send(0.0) for _ in range(2)]
    assert bulletin.full == {backend}
    driver.fleet.end(leases[0], Outcome.OK, 0.1)
    assert not bulletin.full
    driver.fleet.audit()


def test_the_filters_look_again_when_a_doubt_begins_and_when_it_ends() -> None:
    driver = Driver(fleet_of(A, B))
    before = driver.fleet.bulletin.generation
    driver.fail(0.0, Outcome.SERVER_ERROR, exclude=(B,))
    doubted = driver.fleet.bulletin.generation
    assert doubted > before
    driver.serve(0.2, pin_region="us-east")
    assert driver.fleet.bulletin.generation > doubted


def test_a_retry_after_is_looked_at_again_when_it_is_over() -> None:
    driver = Driver(fleet_of(A))
    lease = driver.send(0.0)
    driver.fleet.end(lease, Outcome.OVERLOADED, 0.1, retry_after_s=2.0)
    assert driver.fleet.bulletin.next_return_s == 2.1
    assert not isinstance(driver.fleet.decide(ask(), driver.policy, 1.0, random.Random(1)), Dispatch)
    assert isinstance(driver.fleet.decide(ask(), driver.policy, 2.2, random.Random(1)), Dispatch)


def test_the_names_of_silent_ones_are_taken_once() -> None:
    driver = Driver(fleet_of(A, B))
    for i in range(10):
        driver.fleet.observe_health(A, False, float(i))
    assert driver.fleet.take_silenced() == [A]
    assert driver.fleet.take_silenced() == []


def test_each_change_of_a_state_is_told_once_with_what_led_to_it() -> None:
    driver = Driver(fleet_of(A, B))
    for i in range(10):
        driver.fleet.observe_health(A, False, float(i))
    driver.fail(10.0, Outcome.SERVER_ERROR, exclude=(A,))
    down, suspect = driver.fleet.bulletin.take_changes()
    assert (down.backend, down.region, down.before, down.after, down.event) == (
        A,
        "us-east",
        State.HEALTHY,
        State.EJECTED,
        Event.DOWN,
    )
    assert down.at_s < 10.0
    assert (suspect.backend, suspect.after, suspect.event) == (B, State.SUSPECT, Event.FAULT)
    assert suspect.error == "server_error"
    assert driver.fleet.bulletin.take_changes() == []


def test_changes_that_nobody_asks_for_do_not_pile_up() -> None:
    fleet = fleet_of(A, B)
    for i in range(CHANGES_MAX + 100):
        fleet.bulletin.moved(fleet.backends[A], State.HEALTHY, Event.FAULT, float(i), silent=False)
    changes = fleet.bulletin.take_changes()
    assert len(changes) == CHANGES_MAX
    assert changes[-1].at_s == CHANGES_MAX + 99


def test_a_backend_that_is_put_back_while_it_pauses_returns_when_the_pause_is_over() -> None:
    driver = Driver(fleet_of(A), policy="round_robin")
    fleet = driver.fleet
    first, second, _ = (driver.send(0.0) for _ in range(3))
    fleet.end(first, Outcome.OVERLOADED, 0.0, retry_after_s=1.0)
    fleet.end(second, Outcome.OVERLOADED, 0.0, retry_after_s=5.0)
    fleet.apply([], 0.5)  # the third is in flight, so the backend is remembered
    for now_s in (2.0, 3.0):
        fleet.tick(now_s)
    fleet.apply([spec(A)], 4.9)
    assert isinstance(fleet.decide(ask(), driver.policy, 4.95, driver.rng), Wait)
    assert isinstance(fleet.decide(ask(), driver.policy, 5.2, driver.rng), Dispatch)
