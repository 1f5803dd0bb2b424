"""A model that one backend has lost: others get its requests, and the backend gets them again, ever more rarely."""

from __future__ import annotations

from router.core.decisions import Dispatch, Reject, RejectReason, Struck
from router.core.health import State
from router.core.outcomes import Outcome
from router.core.params import Params
from tests.support.fleets import MODEL, Driver, ask, fleet_of, spec

MISSING = Outcome.MODEL_MISSING
PARAMS = Params()
EAST, WEST = "us-east/a", "us-west/a"


def asked(driver: Driver, now_s: float, model: str = MODEL) -> str:
    """Who gets a request, by the policy that takes turns: two, so that both have one."""
    names = {driver.serve(now_s, model=model).backend for _ in range(2)}
    return " ".join(sorted(names))


def test_a_denial_sends_requests_elsewhere_for_a_while_and_costs_no_health() -> None:
    driver = Driver(fleet_of(EAST, WEST), policy="round_robin")
    fleet = driver.fleet
    driver.fail(0.0, MISSING, pin_region="us-east")
    assert asked(driver, 0.1) == WEST
    assert fleet.backends[EAST].state is State.HEALTHY
    decision = fleet.decide(ask(), driver.policy, 0.2, driver.rng)
    assert isinstance(decision, Dispatch)
    struck = {candidate.backend: candidate.struck for candidate in decision.candidates}
    assert struck[EAST] is Struck.DENIED
    assert asked(driver, PARAMS.denial_s + 0.2) == f"{EAST} {WEST}"


def test_each_further_denial_doubles_the_time_up_to_a_minute() -> None:
    driver = Driver(fleet_of(EAST, WEST), policy="round_robin")
    now_s, waits = 0.0, []
    for _ in range(8):
        driver.fail(now_s, MISSING, pin_region="us-east")
        began_s = now_s
        while asked(driver, now_s := now_s + 0.1) == WEST:
            pass
        waits.append(round(now_s - began_s))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    driver.fail(now_s + 130.0, MISSING, pin_region="us-east")
    assert asked(driver, now_s + 131.5) == f"{EAST} {WEST}", "long ago is forgotten"


def test_other_models_of_the_backend_are_not_concerned() -> None:
    driver = Driver(fleet_of(EAST, WEST, models=(MODEL, "other")), policy="round_robin")
    driver.fail(0.0, MISSING, pin_region="us-east")
    assert asked(driver, 0.1, "other") == f"{EAST} {WEST}"


def test_when_all_deny_all_are_asked() -> None:
    """The client then gets their own words, and none of them is lost for the moment in which it is loaded."""
    driver = Driver(fleet_of(EAST, WEST), policy="round_robin")
    for region in ("us-east", "us-west"):
        driver.fail(0.0, MISSING, pin_region=region)
    assert asked(driver, 0.1) == f"{EAST} {WEST}"
    assert driver.fleet.models() == [MODEL]


def test_one_request_asks_each_backend_once() -> None:
    driver = Driver(fleet_of(EAST, WEST), policy="round_robin")
    first = driver.fail(0.0, MISSING)
    second = driver.fail(0.0, MISSING, exclude=(first.backend,))
    assert {first.backend, second.backend} == {EAST, WEST}
    tried = (first.backend, second.backend)
    assert isinstance(driver.fleet.decide(ask(), driver.policy, 0.0, driver.rng, exclude=tried), Reject)


def test_attempts_under_way_at_the_first_denial_do_not_lengthen_it() -> None:
    driver = Driver(fleet_of(EAST, WEST), policy="round_robin")
    leases = [driver.send(0.0, pin_region="us-east") for _ in range(5)]
    for lease in leases:
        driver.fleet.end(lease, MISSING, 0.1)
    assert asked(driver, 1.3) == f"{EAST} {WEST}"


def test_a_list_without_the_model_settles_it() -> None:
    fleet = fleet_of(EAST, WEST, models=())
    driver = Driver(fleet, policy="round_robin")
    for name in (EAST, WEST):
        fleet.observe_models(name, [MODEL, "base"], 0.0)
    driver.fail(0.1, MISSING, pin_region="us-east")
    fleet.observe_models(EAST, ["base"], 0.2)
    assert asked(driver, 100.0) == WEST
    fleet.observe_models(EAST, [MODEL, "base"], 200.0)
    assert asked(driver, 200.1) == f"{EAST} {WEST}"


def test_a_silent_backend_does_not_make_a_misspelt_model_worth_waiting_for() -> None:
    fleet = fleet_of(EAST, WEST, models=())
    driver = Driver(fleet)

    def reason(now_s: float) -> RejectReason:
        decision = fleet.decide(ask(model="misspelt"), driver.policy, now_s, driver.rng)
        assert isinstance(decision, Reject)
        return decision.reason

    assert reason(1000.0) is RejectReason.NO_BACKEND, "nobody has told anything"
    fleet.observe_models("us-east/a", [MODEL], 1000.0)
    assert reason(1000.1) is RejectReason.UNKNOWN_MODEL, "the other one had its time"
    fleet.apply([spec("us-east/a", models=()), spec("eu-west/a", models=())], 1001.0)
    assert reason(1001.1) is RejectReason.NO_BACKEND, "this one is new"
    assert reason(1062.0) is RejectReason.UNKNOWN_MODEL
