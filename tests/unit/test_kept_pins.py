"""Requests that only one backend can serve: the keeper of the response that they continue or ask about."""

from __future__ import annotations

import pytest

from router.core.decisions import Dispatch, Reject, RejectReason, Struck, Wait
from router.core.outcomes import Outcome
from tests.support.fleets import MODEL, Driver, ask, fleet_of

NAMES = ("us-east/a", "us-east/b", "us-west/a", "eu-west/a")


def test_only_the_keeper_of_a_response_is_a_candidate() -> None:
    driver = Driver(fleet_of(*NAMES))
    decision = driver.fleet.decide(ask(pin_backend="eu-west/a"), driver.policy, 0.0, driver.rng)
    assert isinstance(decision, Dispatch)
    assert decision.lease.backend == "eu-west/a"
    kept = Struck.KEPT
    assert {c.backend: c.struck for c in decision.candidates} == {
        name: None if name == "eu-west/a" else kept for name in NAMES
    }


def test_a_keeper_that_drains_is_named_and_one_outside_the_law_is_not() -> None:
    driver = Driver(fleet_of(*NAMES))
    driver.fleet.set_draining("eu-west/a", True)
    pinned = {"pin_backend": "eu-west/a"}
    decision = driver.fleet.decide(ask(**pinned), driver.policy, 0.0, driver.rng)
    assert isinstance(decision, Reject)
    assert decision.reason is RejectReason.NO_BACKEND
    assert "eu-west/a" in decision.detail
    assert "draining" in decision.detail
    decision = driver.fleet.decide(ask(**pinned, residency=frozenset({"us"})), driver.policy, 0.0, driver.rng)
    assert isinstance(decision, Reject)
    assert decision.reason is RejectReason.RESIDENCY


def test_a_full_keeper_makes_wait_and_a_light_request_needs_no_place() -> None:
    driver = Driver(fleet_of(*NAMES, max_inflight=1))
    running = driver.send(0.0, pin_backend="us-east/b")
    decision = driver.fleet.decide(ask(pin_backend="us-east/b"), driver.policy, 0.0, driver.rng)
    assert isinstance(decision, Wait)
    light = driver.send(0.0, pin_backend="us-east/b", light=True, prompt_tokens=0, stream=False)
    b = driver.fleet.backends["us-east/b"]
    learned = b.service.mean_uncached_tokens
    driver.fleet.end(light, Outcome.OK, 0.1)
    assert b.service.mean_uncached_tokens == learned
    driver.fleet.end(running, Outcome.OK, 0.2)
    assert b.inflight == 0


@pytest.mark.parametrize("light", [True, False])
def test_a_light_request_teaches_nothing(light: bool) -> None:
    driver = Driver(fleet_of("us-east/a"))
    fit = driver.fleet.backends["us-east/a"].lanes[MODEL].fit if driver.serve(0.0) else None

    def learned() -> list[float]:
        return [getattr(fit, name) for name in ("_n", "_sy", "residual_s", "error_s")]

    before = learned()
    driver.serve(0.01, ttft_s=0.01, light=light, prompt_tokens=0)
    driver.fail(0.02, Outcome.FIRST_TOKEN_TIMEOUT, light=light, prompt_tokens=0)
    assert (learned() == before) is light
