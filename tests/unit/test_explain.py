"""The explanation of a decision: complete, serialisable, and true at the moment of the decision."""

from __future__ import annotations

import json

import pytest

from router.core.decisions import Dispatch
from router.core.explain import changes_to_win, explain
from router.core.policy import POLICIES
from tests.support.fleets import Driver, ask, fleet_of

NAMES = ("us-east/a", "us-west/a", "eu-west/a", "ap-east/a")


@pytest.mark.parametrize("policy", POLICIES)
def test_it_is_json(policy: str) -> None:
    driver = Driver(fleet_of(*NAMES), policy)
    driver.fleet.set_draining("ap-east", True)
    decision = driver.fleet.decide(ask(affinity="a"), driver.policy, 0.0, driver.rng)
    body = json.loads(json.dumps(explain(decision), allow_nan=False))
    assert body["kind"] == "dispatch"
    assert body["policy"] == policy
    by_name = {c["backend"]: c for c in body["candidates"]}
    assert set(by_name) == set(NAMES)
    assert by_name["ap-east/a"]["struck"] == "draining"
    assert by_name["ap-east/a"]["cost_s"] is None
    assert [c["backend"] for c in body["candidates"] if c["chosen"]] == [body["backend"]]


def test_it_says_what_another_would_need_to_win() -> None:
    driver = Driver(fleet_of("us-east/a", "eu-west/a"))
    body = explain(driver.fleet.decide(ask(), driver.policy, 0.0, driver.rng))
    winner, loser = body["candidates"]
    assert (winner["backend"], winner["behind_s"], winner["terms_behind"]) == ("us-east/a", 0.0, {})
    assert loser["behind_s"] == pytest.approx(loser["cost_s"] - winner["cost_s"])
    assert next(iter(loser["terms_behind"])) == "rtt", "the ocean is what it loses by"
    assert body["margin_s"] == pytest.approx(loser["behind_s"])
    assert body["predicted_ttft_s"] == pytest.approx(
        winner["cost_s"] - winner["terms"]["toll"] - winner["terms"]["decode"]
    )


def test_what_would_have_to_change_is_enough_and_no_more() -> None:
    assert changes_to_win({"queue": 0.3, "rtt": 0.1}, {"queue": 0.0, "rtt": 0.2}) == pytest.approx({"queue": 0.2})
    both = changes_to_win({"queue": 0.3, "rtt": 0.1}, {"queue": 0.1, "rtt": 0.0})
    assert both == pytest.approx({"queue": 0.2, "rtt": 0.1})
    assert changes_to_win({"rtt": 0.1}, {"rtt": 0.1}) == {}
    driver = Driver(fleet_of(*NAMES))
    for _ in range(3):
        driver.send(0.0, prompt_tokens=4000)
    body = explain(driver.fleet.decide(ask(), driver.policy, 0.0, driver.rng))
    winner = next(c for c in body["candidates"] if c["chosen"])
    for loser in body["candidates"]:
        if not loser["chosen"]:
            less = sum(loser["to_win"].values())
            assert less == pytest.approx(max(0.0, loser["cost_s"] - winner["cost_s"]))


def test_a_dispatch_knows_its_candidates_without_having_made_them() -> None:
    driver = Driver(fleet_of(*NAMES))
    decision = driver.fleet.decide(ask(), driver.policy, 0.0, driver.rng)
    assert isinstance(decision, Dispatch)
    assert len(decision.candidates) == 4
    assert decision.candidates[0].backend == decision.lease.backend
    assert [c.backend for c in decision.candidates[1:3]] == ["us-west/a", "eu-west/a"]
    costs = [c.cost_s for c in decision.candidates if c.cost_s is not None]
    assert costs == sorted(costs)


def test_waiting_and_refusals_are_explained_too() -> None:
    driver = Driver(fleet_of("us-east/a", max_inflight=1))
    driver.send(0.0)
    waiting = explain(driver.fleet.decide(ask(deadline_s=4.0), driver.policy, 0.0, driver.rng))
    assert (waiting["kind"], waiting["until_s"], waiting["again_s"]) == ("wait", 4.0, None)
    assert waiting["candidates"][0]["struck"] == "saturated"
    refused = explain(driver.fleet.decide(ask(model="x"), driver.policy, 0.0, driver.rng))
    assert (refused["kind"], refused["reason"]) == ("reject", "unknown_model")
    json.dumps([waiting, refused], allow_nan=False)
