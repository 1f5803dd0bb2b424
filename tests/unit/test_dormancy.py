"""Models of which nothing need run: what rests, who is not served, where one is woken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.dormancy import TRIES, Hindrance, region_to_wake, rests, unserved
from router.core.fleet import Fleet
from router.core.types import RegionSpec
from tests.support.fleets import MODEL, REGIONS, ask, fleet_of

EAST, WEST, EU = "us-east/a", "us-west/a", "eu-west/a"
EUROPEAN = frozenset({"eu"})


def dead(fleet: Fleet, *names: str) -> None:
    for name in names:
        for at_s in (1.0, 2.0, 3.0, 4.0):
            fleet.observe_health(name, False, at_s)


def resting(fleet: Fleet, now_s: float = 5.0) -> set[str]:
    backends = fleet.backends.values()
    return {b.name for b in backends if rests(b, backends, fleet.dormant, now_s)}


def test_what_was_put_to_sleep_rests() -> None:
    fleet = fleet_of(EAST, WEST)
    fleet.set_asleep(EAST, True)
    assert resting(fleet) == {EAST}


def test_what_nobody_answers_at_rests_while_nothing_runs_and_nothing_need_run() -> None:
    fleet = fleet_of(EAST, WEST)
    dead(fleet, EAST, WEST)
    assert resting(fleet) == set(), "it is to run"
    fleet.dormant = {MODEL: 60.0}
    assert resting(fleet) == {EAST, WEST}
    assert resting(fleet_of(EAST)) == set()


def test_one_that_is_missed_beside_others_does_not_rest() -> None:
    fleet = fleet_of(EAST, WEST)
    fleet.dormant = {MODEL: 60.0}
    dead(fleet, EAST)
    assert resting(fleet) == set()


def test_a_model_that_is_to_run_keeps_its_backend_awake() -> None:
    fleet = fleet_of(EAST, models=(MODEL, "other"))
    fleet.dormant = {MODEL: 60.0}
    dead(fleet, EAST)
    assert resting(fleet) == set()


def test_who_is_served_elsewhere_waits_for_nobody() -> None:
    fleet = fleet_of(EAST, EU)
    fleet.set_asleep(EU, True)
    anyone, european = ask(request_id="1"), ask(request_id="2", residency=EUROPEAN)
    backends = fleet.backends.values()
    assert unserved([anyone, european, ask(residency=EUROPEAN)], backends, 0.0) == [european], "one for each kind"
    assert unserved([anyone], (), 0.0) == [anyone]


def test_the_region_that_is_woken_is_one_that_serves() -> None:
    backends = list(fleet_of(EAST, EU, home="us-east").backends.values())
    assert region_to_wake([ask()], backends, (), "us-east") == "us-east"
    assert region_to_wake([ask(residency=EUROPEAN)], backends, (), "us-east") == "eu-west"
    assert region_to_wake([ask(), ask(residency=EUROPEAN)], backends, (), "us-east") == "eu-west", "both may go there"
    assert region_to_wake([ask(pin_region="eu-west")], backends, (), "us-east") == "eu-west"
    elsewhere = list(fleet_of(EU, "ap-east/a", home="us-east").backends.values())
    elsewhere[0].take_rtt(0.08, 0.0)
    elsewhere[1].take_rtt(0.16, 0.0)
    assert region_to_wake([ask()], elsewhere, (), "us-east") == "eu-west", "the nearest, not the caller's own"


def test_where_nobody_is_known_yet_the_places_of_sources_are() -> None:
    places = (REGIONS["ap-east"], REGIONS["eu-west"])
    assert region_to_wake([ask(residency=EUROPEAN)], (), places, "us-east") == "eu-west"
    assert region_to_wake([ask()], (), places, "ap-east") == "ap-east"
    assert region_to_wake([ask()], (), (), "us-east") == "us-east"
    assert region_to_wake([ask(pin_region="eu-west")], (), (), "us-east") == "eu-west"


@given(
    wanted=st.lists(
        st.tuples(st.sampled_from([None, frozenset({"us"}), EUROPEAN]), st.sampled_from([None, "us-east", "eu-west"])),
        min_size=1,
    ),
    names=st.sets(st.sampled_from([EAST, WEST, EU, "ap-east/a"]), min_size=1),
    home=st.sampled_from([*REGIONS, None]),
)
def test_no_region_serves_more_of_them(
    wanted: list[tuple[frozenset[str] | None, str | None]], names: set[str], home: str | None
) -> None:
    requests = [ask(residency=residency, pin_region=pin) for residency, pin in wanted]
    backends = list(fleet_of(*sorted(names)).backends.values())

    def served(place: RegionSpec) -> int:
        return sum(
            r.pin_region in (None, place.name) and (r.residency is None or place.jurisdiction in r.residency)
            for r in requests
        )

    chosen = region_to_wake(requests, backends, (), home)
    assert chosen is not None
    assert served(REGIONS[chosen]) == max(served(b.spec.region) for b in backends)


def test_several_calls_must_have_failed_before_requests_are_refused() -> None:
    once = Hindrance("why", "told", 0.0, 10.0)
    often = Hindrance("why", "told", 0.0, 10.0, TRIES)
    assert (once.refuses(5.0), often.refuses(5.0), often.refuses(10.0)) == (False, True, False)
    assert (often.wait_s(90.0, 4.0), often.wait_s(90.0, 40.0)) == (96.0, 90.0)
