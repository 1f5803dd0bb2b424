"""The demand on the backends of a model, and which get too much or too little, with the reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from router.core.fleet import Fleet
from router.core.health import Event
from router.core.leaving import Notice
from router.core.outcomes import Outcome
from router.core.standing import BackendStanding, asked_of, standings
from router.core.types import LoadSample
from tests.support.fleets import MODEL, Driver, fleet_of

NAMES = ("us-east/a", "us-east/b", "us-east/c")


def steady(fleet: Fleet, per_s: float, for_s: float, tokens: int = 1000) -> float:
    """Requests at an even pace, each answered after 0.3 s. Returns when the last one was."""
    driver = Driver(fleet, "round_robin")
    now_s = 0.0
    for i in range(int(per_s * for_s)):
        now_s = i / per_s
        driver.serve(now_s, 0.2, prompt_tokens=tokens)
    fleet.tick(now_s, everywhere=True)
    return now_s


def found(fleet: Fleet, now_s: float) -> dict[str, BackendStanding]:
    return {s.backend: s for s in standings(list(fleet.backends.values()), MODEL, fleet.params, now_s)}


def test_rates_and_work_of_what_is_sent() -> None:
    fleet = fleet_of(*NAMES)
    now_s = steady(fleet, 6.0, 60.0)
    asked = asked_of(list(fleet.backends.values()), MODEL, 4.0, fleet.common, fleet.params, now_s)
    assert asked.backends == 3
    assert asked.per_s == pytest.approx(6.0, rel=0.2)
    lane = fleet.backends["us-east/a"].lanes[MODEL]
    assert asked.work_s == pytest.approx(1000 * lane.fit.line.token_s, rel=0.3)
    assert asked.work_square >= asked.work_s**2
    assert asked.waiting == 4.0
    assert asked.inflight == 0.0


def test_rates_fall_without_requests() -> None:
    fleet = fleet_of(*NAMES)
    now_s = steady(fleet, 6.0, 30.0)
    fleet.tick(now_s + 60.0, everywhere=True)
    asked = asked_of(list(fleet.backends.values()), MODEL, 0.0, fleet.common, fleet.params, now_s + 60.0)
    assert asked.per_s < 0.1


def test_of_nothing_that_runs_the_first_guess_is_known() -> None:
    fleet = fleet_of(*NAMES)
    for name in NAMES:
        fleet.set_draining(name, True)
    asked = asked_of(list(fleet.backends.values()), MODEL, 12.0, fleet.common, fleet.params, 0.0)
    assert (asked.backends, asked.per_s, asked.waiting) == (0, 0.0, 12.0)
    assert asked.work_s > 0.0


def test_working_and_idle() -> None:
    fleet = fleet_of(*NAMES)
    now_s = steady(fleet, 6.0, 30.0)
    assert {s.state for s in found(fleet, now_s).values()} == {"working"}
    assert {s.state for s in found(fleet_of(*NAMES), 0.0).values()} == {"idle"}


def test_full_by_max_inflight_and_by_refusals() -> None:
    fleet = fleet_of("us-east/a", max_inflight=10)
    driver = Driver(fleet)
    leases = [driver.send(0.0) for _ in range(10)]
    assert found(fleet, 0.0)["us-east/a"].reason == "10 requests in flight: max_inflight"
    fleet.end(leases.pop(), Outcome.OVERLOADED, 0.1)
    assert "refusals" in found(fleet, 0.1)["us-east/a"].reason


def test_full_by_memory() -> None:
    fleet = fleet_of(*NAMES)
    steady(fleet, 6.0, 10.0)
    fleet.observe_load("us-east/a", LoadSample(10.0, 0.0, 0.0, 0.97), 10.0)
    here = found(fleet, 10.0)
    assert (here["us-east/a"].state, here["us-east/a"].reason) == ("saturated", "its KV cache is 97% full")
    assert here["us-east/b"].state == "working"


def drained(fleet: Fleet) -> None:
    fleet.set_draining("us-east/c", True)


def told(fleet: Fleet) -> None:
    fleet.set_notice("us-east/c", Notice(0.0, 100.0, "a test"))


def down(fleet: Fleet) -> None:
    for _ in range(5):
        fleet.observe_health("us-east/c", False, 11.0)


@pytest.mark.parametrize(
    ("make", "reason"), [(drained, "it is drained"), (told, "it is leaving"), (down, "nobody answers there")]
)
def test_away(make: Callable[[Fleet], None], reason: str) -> None:
    fleet = fleet_of(*NAMES)
    make(fleet)
    here = found(fleet, 11.0)["us-east/c"]
    assert (here.state, here.reason) == ("away", reason)


def only_two(fleet: Fleet, per_s: float = 6.0, for_s: float = 30.0) -> float:
    """c gets nothing, the others all."""
    fleet.set_draining("us-east/c", True)
    now_s = steady(fleet, per_s, for_s)
    fleet.set_draining("us-east/c", False)
    return now_s


def test_starved_and_why() -> None:
    fleet = fleet_of(*NAMES)
    now_s = only_two(fleet)
    here = found(fleet, now_s)["us-east/c"]
    assert (here.state, here.reason) == ("starved", "others have the prefixes, or are nearer")
    fleet.observe_health("us-east/c", False, now_s)
    assert found(fleet, now_s)["us-east/c"].reason == "its probe fails"
    fleet.backends["us-east/c"].fire(Event.DOWN, now_s)
    for _ in range(3):
        fleet.observe_health("us-east/c", True, now_s + 5.0)
    assert found(fleet, now_s + 5.0)["us-east/c"].reason in ("slow start", "on its way back: a few trials at a time")
