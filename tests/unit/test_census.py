"""Every model in every region, counted."""

from __future__ import annotations

import pytest

from router.core.census import Census, Group
from router.core.fleet import Fleet
from router.core.needed import Goal
from router.core.outcomes import Outcome
from tests.support.fleets import MODEL, Driver, fleet_of, spec

NAMES = ("us-east/a", "us-east/b", "eu-west/a")
GOALS = {MODEL: Goal(1.0, hold_s=10.0)}


def by_region(census: Census, now_s: float, goals: dict[str, Goal] | None = None, **waiting: float) -> dict[str, Group]:
    told = {MODEL: sum(waiting.values())} if waiting else {}
    return {g.region: g for g in census.look(GOALS if goals is None else goals, told, now_s)}


def test_a_group_for_each_model_in_each_region() -> None:
    fleet = fleet_of(*NAMES)
    fleet.apply([*(b.spec for b in fleet.backends.values()), spec("eu-west/z", models=("other",))], 0.0)
    groups = Census(fleet).look({}, {}, 0.0)
    assert {(g.region, g.model, g.known, g.there) for g in groups} == {
        ("us-east", MODEL, 2, 2),
        ("eu-west", MODEL, 1, 1),
        ("eu-west", "other", 1, 1),
    }
    assert all(g.needed is None and g.reason is None and g.ratio is None for g in groups)


def test_with_a_goal_there_is_a_number() -> None:
    here = by_region(Census(fleet_of(*NAMES)), 0.0)
    assert (here["us-east"].needed, here["us-east"].short, here["us-east"].ratio) == (2, 0, 1.0)


def test_fewer_after_the_hold_and_what_the_rest_costs() -> None:
    fleet = fleet_of(*NAMES, cost_usd_hour=2.5)
    census = Census(fleet)
    for at in range(10):
        here = by_region(census, 2.0 * at)
    assert (here["us-east"].needed, here["us-east"].spare, here["us-east"].idle_usd_hour) == (1, 1, 2.5)
    assert (here["eu-west"].needed, here["eu-west"].idle_usd_hour) == (1, 0.0)


def test_a_backend_that_is_away_is_short() -> None:
    fleet = fleet_of(*NAMES)
    fleet.set_draining("eu-west", True)
    here = by_region(Census(fleet), 0.0)["eu-west"]
    assert (here.known, here.there, here.needed, here.short, here.ratio) == (1, 0, 1, 1, None)


def test_a_model_that_nobody_serves_has_a_group_where_the_router_stands() -> None:
    fleet = fleet_of(*NAMES)
    groups = Census(fleet).look({"asleep": Goal(1.0, least=0)}, {"asleep": 7.0}, 0.0)
    found = next(g for g in groups if g.model == "asleep")
    assert (found.region, found.known, found.there, found.needed, found.asked.waiting) == ("us-east", 0, 0, 1, 7.0)


def test_nobody_can_say_while_a_source_was_never_heard_that_may_bring_more() -> None:
    """A router that starts must not have those stopped that it does not know yet."""
    unheard = {("us-east", MODEL)}
    fleet = fleet_of(*NAMES)
    census = Census(fleet, lambda model, region: any(region in (None, r) and model == m for r, m in unheard))
    here = by_region(census, 0.0)
    told = here["us-east"]
    assert (told.there, told.needed, told.short, told.spare, told.ratio) == (2, None, None, None, None)
    assert told.reason == "unheard"
    assert here["eu-west"].needed == 1
    fleet.apply((), 0.0)
    (nobody,) = census.look(GOALS, {}, 2.0)
    assert (nobody.known, nobody.needed, nobody.reason) == (0, None, "unheard")
    fleet.apply([spec(f"us-east/{n}") for n in range(5)], 4.0)
    unheard.clear()
    assert by_region(census, 4.0)["us-east"].needed == 5


def test_those_who_wait_are_counted_where_the_router_stands() -> None:
    here = by_region(Census(fleet_of(*NAMES)), 0.0, here=6.0)
    assert (here["us-east"].asked.waiting, here["eu-west"].asked.waiting) == (6.0, 0.0)
    there = by_region(Census(fleet_of("eu-west/a", "ap-east/a")), 0.0, here=6.0)
    assert (there["eu-west"].asked.waiting, there["ap-east"].asked.waiting) == (3.0, 3.0)


def test_an_old_stream_keeps_its_backend() -> None:
    fleet = fleet_of("us-east/a", "us-east/b")
    driver, census = Driver(fleet, "round_robin"), Census(fleet)
    leases = [driver.send(0.0) for _ in range(2)]
    for lease in leases:
        fleet.first_token(lease, 0.1)
    for at in range(40):
        here = by_region(census, 1.0 * at)
    assert (here["us-east"].needed, here["us-east"].reason) == (2, "streams")
    fleet.end(leases[0], Outcome.OK, 40.0)
    for at in range(40, 80):
        here = by_region(census, 1.0 * at)
    assert here["us-east"].needed == 1


@pytest.mark.parametrize("idle_s", [30.0, 61.0])
def test_without_a_goal_what_had_no_request_for_a_minute_is_idle(idle_s: float) -> None:
    fleet: Fleet = fleet_of("us-east/a", "us-east/b", cost_usd_hour=2.0)
    driver = Driver(fleet, "round_robin")
    driver.serve(0.0)
    here = by_region(Census(fleet), idle_s, {})["us-east"]
    assert here.idle_usd_hour == (0.0 if idle_s < 60.0 else 4.0)
