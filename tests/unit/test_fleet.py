"""The fleet: filters, leases, what endings do, and invariants under any sequence of events."""

from __future__ import annotations

import random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core.cost import cost_terms
from router.core.decisions import Dispatch, Reject, RejectReason, Struck, Wait
from router.core.fleet import Fleet
from router.core.health import State
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import POLICIES
from router.core.types import Lease, LoadSample, Usage
from tests.support.effort import examples
from tests.support.fleets import MODEL, REGIONS, Driver, ask, fleet_of, spec

NAMES = ("us-east/a", "us-east/b", "us-west/a", "eu-west/a", "ap-east/a")


def struck_of(decision: Dispatch | Wait | Reject) -> dict[str, Struck | None]:
    return {c.backend: c.struck for c in decision.candidates}


class TestFilters:
    def test_the_last_resort_keeps_to_the_limit_of_a_backend(self) -> None:
        driver = Driver(fleet_of("us-east/a", max_inflight=1))
        for i in range(6):
            driver.fleet.observe_health("us-east/a", False, i * 1.0)
        assert driver.fleet.backends["us-east/a"].state is State.EJECTED
        driver.send(6.0)
        decision = driver.fleet.decide(ask(), driver.policy, 6.0, driver.rng)
        assert isinstance(decision, Reject)
        assert decision.reason is RejectReason.NO_BACKEND

    def test_a_model_nobody_serves_is_unknown(self) -> None:
        driver = Driver(fleet_of(*NAMES))
        decision = driver.fleet.decide(ask(model="gpt-9"), driver.policy, 0.0, driver.rng)
        assert isinstance(decision, Reject)
        assert decision.reason is RejectReason.UNKNOWN_MODEL
        assert set(struck_of(decision).values()) == {Struck.MODEL}

    def test_a_model_is_not_unknown_while_a_backend_has_not_told_its_models(self) -> None:
        fleet = fleet_of("us-east/a", models=())
        driver = Driver(fleet)
        decision = fleet.decide(ask(), driver.policy, 0.0, driver.rng)
        assert isinstance(decision, Reject)
        assert decision.reason is RejectReason.NO_BACKEND
        fleet.observe_models("us-east/a", [MODEL, "other"], 0.1)
        assert fleet.models() == [MODEL, "other"]
        assert driver.send(0.2).backend == "us-east/a"

    def test_configured_models_hold_against_what_the_engine_says(self) -> None:
        fleet = fleet_of("us-east/a")
        fleet.observe_models("us-east/a", ["other"], 0.1)
        assert fleet.models() == [MODEL]

    def test_residency_is_a_hard_filter(self) -> None:
        driver = Driver(fleet_of(*NAMES))
        for i in range(200):
            assert driver.serve(i * 0.01, residency=frozenset({"eu"})).backend == "eu-west/a"
        decision = driver.fleet.decide(ask(residency=frozenset({"ch"})), driver.policy, 2.0, driver.rng)
        assert isinstance(decision, Reject)
        assert decision.reason is RejectReason.RESIDENCY

    def test_residency_holds_when_the_allowed_region_is_away(self) -> None:
        driver = Driver(fleet_of(*NAMES))
        driver.fleet.set_draining("eu-west", True)
        decision = driver.fleet.decide(ask(residency=frozenset({"eu"})), driver.policy, 0.0, driver.rng)
        assert isinstance(decision, Reject)
        assert decision.reason is RejectReason.RESIDENCY
        assert struck_of(decision)["eu-west/a"] is Struck.DRAINING
        assert struck_of(decision)["us-east/a"] is Struck.RESIDENCY

    def test_pin(self) -> None:
        driver = Driver(fleet_of(*NAMES))
        assert driver.send(0.0, pin_region="ap-east").backend == "ap-east/a"

    @pytest.mark.parametrize(
        ("pin", "residency", "reason", "waiting_helps"),
        [
            ("us-east", None, RejectReason.NO_BACKEND, True),
            ("mars", None, RejectReason.NO_BACKEND, False),
            ("us-east", frozenset({"eu"}), RejectReason.RESIDENCY, False),
        ],
    )
    def test_a_pin_that_cannot_be_kept(
        self, pin: str, residency: frozenset[str] | None, reason: RejectReason, waiting_helps: bool
    ) -> None:
        driver = Driver(fleet_of(*NAMES))
        driver.fleet.set_draining("us-east", True)
        asked = ask(pin_region=pin, residency=residency)
        decision = driver.fleet.decide(asked, driver.policy, 0.0, driver.rng)
        assert isinstance(decision, Reject)
        assert (decision.reason, decision.retry_after_s is not None) == (reason, waiting_helps)

    def test_tried_backends_are_left_out(self) -> None:
        driver = Driver(fleet_of(*NAMES))
        tried: tuple[str, ...] = ()
        for i in range(len(NAMES)):
            lease = driver.send(i * 0.1, exclude=tried)
            assert lease.retry is bool(tried)
            tried += (lease.backend,)
        assert sorted(tried) == sorted(NAMES)
        decision = driver.fleet.decide(ask(), driver.policy, 1.0, driver.rng, exclude=tried)
        assert isinstance(decision, Reject)
        assert decision.reason is RejectReason.NO_BACKEND
        assert set(struck_of(decision).values()) == {Struck.TRIED}

    def test_full_backends_make_requests_wait(self) -> None:
        driver = Driver(fleet_of("us-east/a", "us-west/a", max_inflight=2))
        leases = [driver.send(0.0) for _ in range(4)]
        decision = driver.fleet.decide(ask(deadline_s=7.0), driver.policy, 0.0, driver.rng)
        assert isinstance(decision, Wait)
        assert decision.until_s == 7.0
        assert set(struck_of(decision).values()) == {Struck.SATURATED}
        driver.fleet.end(leases[0], Outcome.OK, 0.5)
        assert driver.send(0.5).backend == leases[0].backend

    def test_drain_and_resume(self) -> None:
        fleet = fleet_of(*NAMES)
        driver = Driver(fleet)
        assert fleet.set_draining("us-east", True) == ["us-east/a", "us-east/b"]
        assert fleet.set_draining("us-east", True) == []
        assert all(not driver.serve(i * 0.01).backend.startswith("us-east") for i in range(100))
        fleet.apply([spec(name) for name in (*NAMES, "us-east/c")], 2.0)
        assert fleet.backends["us-east/c"].draining
        assert fleet.set_draining("us-east", False) == ["us-east/a", "us-east/b", "us-east/c"]
        assert driver.send(3.0).backend.startswith("us-east")


class TestLeases:
    def test_counts_follow_a_request(self) -> None:
        fleet = fleet_of("us-east/a")
        backend = fleet.backends["us-east/a"]
        lease = Driver(fleet).send(0.0, prompt_tokens=500)
        assert (backend.inflight, backend.prompts.tokens, len(fleet.leases)) == (1, 500, 1)
        fleet.first_token(lease, 0.2)
        assert (backend.inflight, backend.prompts.tokens) == (1, 0)
        fleet.end(lease, Outcome.OK, 0.4)
        assert (backend.inflight, backend.prompts.tokens, len(fleet.leases)) == (0, 0, 0)

    def test_a_lease_ends_once(self) -> None:
        fleet = fleet_of("us-east/a")
        lease = Driver(fleet).send(0.0)
        fleet.end(lease, Outcome.CLIENT_GONE, 0.1)
        with pytest.raises(RuntimeError, match="ended twice"):
            fleet.end(lease, Outcome.OK, 0.2)
        fleet.audit()

    def test_audit_finds_a_wrong_count(self) -> None:
        fleet = fleet_of("us-east/a")
        Driver(fleet).send(0.0)
        fleet.audit()
        fleet.backends["us-east/a"].inflight += 1
        with pytest.raises(AssertionError, match="2 counted, 1 leases"):
            fleet.audit()

    def test_a_dry_run_leaves_no_trace(self) -> None:
        fleet = fleet_of(*NAMES)
        driver = Driver(fleet)
        decision = fleet.decide(ask(prefix_blocks=(1, 2)), driver.policy, 0.0, driver.rng, dry_run=True)
        assert isinstance(decision, Dispatch)
        assert decision.lease.ended
        backend = fleet.backends[decision.lease.backend]
        assert (backend.inflight, backend.requests_total, len(backend.prefix), len(fleet.leases)) == (0, 0, 0, 0)
        fleet.audit()

    def test_a_removed_backend_stays_until_its_last_lease_ends(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        lease = driver.send(0.0, pin_region="us-west")
        change = fleet.apply([spec("us-east/a")], 1.0)
        assert change.removed == ("us-west/a",)
        assert list(fleet.retired) == ["us-west/a"]
        assert driver.send(1.0).backend == "us-east/a"
        fleet.first_token(lease, 1.1)
        fleet.end(lease, Outcome.OK, 1.2)
        assert not fleet.retired
        fleet.audit()

    def test_a_backend_that_comes_back_finds_its_leases(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        lease = Driver(fleet).send(0.0, pin_region="us-west")
        fleet.apply([spec("us-east/a")], 1.0)
        change = fleet.apply([spec("us-east/a"), spec("us-west/a")], 2.0)
        assert change.added == ("us-west/a",)
        assert fleet.backends["us-west/a"].inflight == 1
        fleet.end(lease, Outcome.OK, 3.0)
        fleet.audit()

    def test_apply_keeps_what_was_learned_unless_the_engine_changed(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        fleet.observe_rtt("us-east/a", 0.02, 0.0)
        driver.serve(0.1, pin_region="us-east", prefix_blocks=(1, 2, 3), tokens_per_block=10.0)
        fleet.end(driver.send(0.5, pin_region="us-east"), Outcome.OVERLOADED, 0.6)
        learned = fleet.backends["us-east/a"].capacity.limit
        assert learned < 256
        change = fleet.apply([spec("us-east/a", cost_usd_hour=3.0), spec("us-west/a")], 1.0)
        assert fleet.backends["us-east/a"].capacity.limit == learned
        assert change.updated == ("us-east/a",)
        assert fleet.backends["us-east/a"].prefix.match((1, 2, 3)) == 3
        assert fleet.backends["us-east/a"].rtt.mean_s == 0.02
        fleet.apply([spec("us-east/a", url="http://elsewhere:1"), spec("us-west/a")], 2.0)
        assert fleet.backends["us-east/a"].prefix.match((1, 2, 3)) == 0
        assert fleet.backends["us-east/a"].rtt.mean_s is None

    def test_attempts_on_the_old_engine_say_nothing_about_the_new_one(self) -> None:
        fleet = fleet_of("us-east/a")
        driver = Driver(fleet)
        leases = [driver.send(0.0) for _ in range(20)]
        fleet.apply([spec("us-east/a", url="http://elsewhere:1")], 1.0)
        fleet.first_token(leases[0], 1.5)
        for lease in leases:
            fleet.end(lease, Outcome.SERVER_ERROR, 2.0)
        assert fleet.backends["us-east/a"].state is State.HEALTHY
        assert fleet.backends["us-east/a"].busiest_lane is None
        fleet.audit()

    def test_an_answer_in_one_piece_teaches_no_first_token(self) -> None:
        fleet = fleet_of("us-east/a")
        backend = fleet.backends["us-east/a"]
        driver = Driver(fleet)
        lease = driver.send(0.0, stream=False, prompt_tokens=1000)
        assert backend.prompts.tokens == 1000
        driver.send(1.0, stream=False, prompt_tokens=1)  # its prompt must have been computed by now
        assert backend.prompts.tokens == 1
        assert backend.prompts.late_s(9.0, backend.health.last_token_s) == 0.0
        fleet.end(lease, Outcome.OK, 20.0, Usage(1000, 500, None, True))
        assert backend.busiest_lane is None
        fleet.audit()


class TestEndings:
    @pytest.mark.parametrize("policy", ["ttft", "nearest", "round_robin"])
    def test_a_dead_region_gets_nothing_after_two_refused_connections(self, policy: str) -> None:
        fleet = fleet_of("us-east/a", "us-west/a", "eu-west/a")
        driver = Driver(fleet, policy)
        assert driver.send(0.0).backend == "us-east/a"
        refused = 0
        for i in range(200):
            lease = driver.send(0.1 + i * 0.01)
            if lease.backend == "us-east/a":
                refused += 1
                fleet.end(lease, Outcome.UNREACHABLE, 0.1 + i * 0.01)
            else:
                fleet.first_token(lease, 0.1 + i * 0.01)
        assert refused <= 2
        assert refused == 1 or fleet.backends["us-east/a"].state is State.EJECTED

    def test_a_region_that_was_down_is_used_soon_after_its_probes_are_good(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        for _ in range(2):
            driver.fail(0.0, Outcome.UNREACHABLE, pin_region="us-east")
        for second in range(1, 40):
            fleet.observe_health("us-east/a", False, float(second))
            assert driver.serve(second + 0.1).backend == "us-west/a"
        fleet.observe_health("us-east/a", True, 40.0)
        fleet.observe_health("us-east/a", True, 41.0)
        assert fleet.backends["us-east/a"].state is State.PROBATION
        assert driver.serve(41.01).backend == "us-east/a"
        for i in range(20):
            driver.serve(41.1 + i * 0.1)
        assert fleet.backends["us-east/a"].state is State.HEALTHY

    def test_a_killed_backend_whose_streams_broke_first_is_used_soon_after_it_listens_again(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        fleet.observe_rtt("us-east/a", 0.001, 0.0)
        fleet.observe_rtt("us-west/a", 0.060, 0.0)
        streams = [driver.send(0.0, pin_region="us-east") for _ in range(8)]
        for lease in streams[:6]:
            fleet.first_token(lease, 0.1)
        for lease in streams[:6]:
            fleet.end(lease, Outcome.TRUNCATED, 1.0)
        for lease in streams[6:]:
            fleet.end(lease, Outcome.UNREACHABLE, 1.0)
        assert fleet.backends["us-east/a"].health.down
        for at_s, ok in ((1.5, False), (2.5, False), (3.5, True), (4.5, True)):
            fleet.observe_health("us-east/a", ok, at_s)
        assert driver.serve(4.6).backend == "us-east/a"

    def test_the_risk_of_a_refused_connection_ends_with_good_probes(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        fleet.observe_rtt("us-east/a", 0.001, 0.0)
        fleet.observe_rtt("us-west/a", 0.060, 0.0)
        fleet.end(driver.send(0.0, pin_region="us-east"), Outcome.UNREACHABLE, 0.1)
        assert driver.serve(0.2).backend == "us-west/a"
        fleet.observe_health("us-east/a", True, 0.5)
        assert driver.serve(0.6).backend == "us-west/a"
        fleet.observe_health("us-east/a", True, 1.5)
        assert driver.serve(1.6).backend == "us-east/a"

    def test_good_probes_do_not_excuse_a_backend_that_answers_badly(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        for i in range(3):
            fleet.end(driver.send(0.1 * i, pin_region="us-east"), Outcome.SERVER_ERROR, 0.1 * i + 0.05)
        for at_s in (1.0, 2.0, 3.0):
            fleet.observe_health("us-east/a", True, at_s)
        assert driver.serve(3.1).backend == "us-west/a"

    def test_slow_start_raises_the_share_slowly(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        for _ in range(2):
            driver.fail(0.0, Outcome.UNREACHABLE, pin_region="us-east")
        for second in (1.0, 2.0):
            fleet.observe_health("us-east/a", True, second)
        for i in range(3):
            driver.serve(2.1 + i * 0.01, ttft_s=0.001, pin_region="us-east")
        assert fleet.backends["us-east/a"].state is State.HEALTHY

        def share(from_s: float) -> float:
            return sum(serve(from_s + i * 0.004) == "us-east/a" for i in range(500)) / 500

        def serve(at_s: float) -> str:
            lease = driver.send(at_s)
            first_s = at_s + 0.03 + fleet.backends[lease.backend].rtt_s
            fleet.first_token(lease, first_s)
            fleet.end(lease, Outcome.OK, first_s)
            return lease.backend

        early, middle, late = share(3.0), share(16.0), share(40.0)
        assert early < 0.2
        assert 0.35 < middle < 0.75
        assert late > 0.9

    def test_when_all_are_down_requests_still_try_but_few_at_a_time(self) -> None:
        fleet = fleet_of("us-east/a")
        driver = Driver(fleet)
        for _ in range(2):
            driver.fail(0.0, Outcome.UNREACHABLE)
        places = fleet.params.trial_places
        leases = [driver.send(1.0) for _ in range(places)]
        decision = fleet.decide(ask(), driver.policy, 1.0, driver.rng)
        assert isinstance(decision, Reject)
        assert decision.reason is RejectReason.NO_BACKEND
        assert decision.retry_after_s is not None
        assert decision.retry_after_s >= 1.0
        fleet.first_token(leases[0], 1.2)  # it is back: no probe was needed
        assert fleet.backends["us-east/a"].state is State.PROBATION
        fleet.audit()

    @pytest.mark.parametrize("outcome", [Outcome.CLIENT_ERROR, Outcome.CLIENT_GONE, Outcome.OVERLOADED])
    def test_clients_and_overload_never_eject(self, outcome: Outcome) -> None:
        fleet = fleet_of("us-east/a", max_inflight=1000)
        driver = Driver(fleet)
        for i in range(500):
            driver.fail(i * 0.01, outcome)
        assert fleet.backends["us-east/a"].state is State.HEALTHY

    def test_panic_ignores_judgement_but_not_death(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", "us-west/a")
        driver = Driver(fleet)
        for _ in range(2):
            driver.fail(0.0, Outcome.UNREACHABLE, pin_region="us-west")
        for i in range(10):
            driver.fail(0.1 + i * 0.001, Outcome.SERVER_ERROR)
        states = {name: b.state for name, b in fleet.backends.items()}
        assert states["us-west/a"] is State.EJECTED
        assert sum(state is State.EJECTED for state in states.values()) == 1, "judgement may eject no more of three"
        assert all(driver.serve(1 + i * 0.01).backend != "us-west/a" for i in range(100))

    def test_judgement_ejects_one_bad_backend_of_three(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a", "eu-west/a")
        driver = Driver(fleet)
        for i in range(5):
            driver.fail(i * 0.01, Outcome.SERVER_ERROR, pin_region="us-east")
        assert fleet.backends["us-east/a"].state is State.EJECTED
        assert driver.serve(1.0).backend != "us-east/a"

    def test_an_ejected_backend_that_asks_for_a_pause_gets_it(self) -> None:
        """It is tried because nothing else is left, and says that it is full: so it is there, and is to be left alone."""
        fleet = fleet_of("us-east/a")
        driver = Driver(fleet)
        for _ in range(2):
            driver.fail(0.0, Outcome.UNREACHABLE)
        fleet.end(driver.send(1.0), Outcome.OVERLOADED, 1.0, retry_after_s=5.0)
        decision = fleet.decide(ask(), driver.policy, 2.0, driver.rng)
        assert isinstance(decision, Wait)
        assert decision.again_s == 6.0
        assert driver.send(6.0).backend == "us-east/a"

    def test_judgement_has_its_limit_for_those_on_their_way_back_too(self) -> None:
        """One of three may be ejected: while that is another one, a failed trial ejects nobody."""
        fleet = fleet_of("us-east/a", "us-west/a", "eu-west/a")
        driver = Driver(fleet)
        for _ in range(5):
            driver.fail(0.0, Outcome.SERVER_ERROR, pin_region="us-east")
        back_s = fleet.backends["us-east/a"].health.until_s + 1.0
        driver.serve(back_s, pin_region="us-west")
        assert fleet.backends["us-east/a"].state is State.PROBATION
        for _ in range(5):
            driver.fail(back_s, Outcome.SERVER_ERROR, pin_region="us-west")
        assert fleet.backends["us-west/a"].state is State.EJECTED
        driver.fail(back_s, Outcome.SERVER_ERROR, pin_region="us-east")
        assert fleet.backends["us-east/a"].state is State.PROBATION

    def test_the_only_backend_is_used_in_panic(self) -> None:
        fleet = fleet_of("us-east/a")
        driver = Driver(fleet)
        for i in range(5):
            driver.fail(i * 0.01, Outcome.SERVER_ERROR)
        assert fleet.backends["us-east/a"].state is State.EJECTED
        decision = fleet.decide(ask(), driver.policy, 0.5, driver.rng)
        assert isinstance(decision, Dispatch)
        assert "panic" in decision.reason

    def test_failing_fast_attracts_nothing(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b")
        driver = Driver(fleet)
        chosen = {"us-east/a": 0, "us-east/b": 0}
        for i in range(300):
            lease = driver.send(i * 0.02)
            chosen[lease.backend] += 1
            if lease.backend == "us-east/a":  # refuses at once, never ejected: only its risk speaks against it
                fleet.end(lease, Outcome.OVERLOADED, i * 0.02 + 0.001)
            else:
                fleet.first_token(lease, i * 0.02 + 0.2)
                fleet.end(lease, Outcome.OK, i * 0.02 + 0.3)
        assert chosen["us-east/a"] < 15

    def test_overload_lowers_the_limit_and_success_raises_it(self) -> None:
        fleet = fleet_of("us-east/a")
        backend = fleet.backends["us-east/a"]
        driver = Driver(fleet)
        leases = [driver.send(0.0) for _ in range(20)]
        for lease in leases:
            fleet.end(lease, Outcome.OVERLOADED, 0.1)
        assert backend.capacity.limit == pytest.approx(16.0), "one burst of refusals is one decrease"
        for i in range(600):
            driver.serve(1.0 + i * 0.001)
        assert 30 < backend.capacity.limit < 60
        fleet.audit()

    def test_retry_after_is_obeyed(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        lease = driver.send(0.0, pin_region="us-east")
        fleet.end(lease, Outcome.OVERLOADED, 0.0, retry_after_s=5.0)
        assert not fleet.backends["us-east/a"].usable(4.9)
        decision = fleet.decide(ask(pin_region="us-east"), driver.policy, 1.0, driver.rng)
        assert isinstance(decision, Wait)
        assert decision.again_s == 5.0
        assert struck_of(decision)["us-east/a"] is Struck.NOT_BEFORE
        assert driver.send(5.2, pin_region="us-east").backend == "us-east/a"

    def test_the_retry_budget_is_per_region(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        granted = sum(fleet.may_retry("us-east/a", ask(), ("us-east/a",), 0.0) for _ in range(500))
        assert granted == 100
        assert fleet.may_retry("us-west/a", ask(), ("us-west/a",), 0.0)


class TestKnowledge:
    def test_a_prompt_that_is_half_computed_is_half_ahead(self) -> None:
        fleet = fleet_of("us-east/a")
        driver = Driver(fleet)
        fleet.observe_rtt("us-east/a", 0.001, 0.0)
        driver.send(0.0, prompt_tokens=20_000)
        queue_s = fleet.backends["us-east/a"].lanes[MODEL].ahead.queue_s
        driver.send(queue_s / 2, prompt_tokens=10)
        later_s = fleet.backends["us-east/a"].lanes[MODEL].ahead.queue_s
        assert later_s == pytest.approx(queue_s / 2, rel=0.1)
        fleet.audit()

    def test_a_new_backend_is_taken_to_be_as_its_siblings(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b")
        driver = Driver(fleet)
        for i in range(100):
            lease = driver.send(i * 0.1, pin_region="us-east", exclude=("us-east/b",))
            fleet.first_token(lease, i * 0.1 + 0.05)
            fleet.end(lease, Outcome.OK, i * 0.1 + 8.0, Usage(100, 800, None, True))
        fleet.observe_load("us-east/b", None, 30.0)
        driver.serve(30.0)
        known, new = (
            dict(cost_terms(fleet.backends[name].lanes[MODEL].ahead, 100, 100))["decode"]
            for name in ("us-east/a", "us-east/b")
        )
        assert new == pytest.approx(known, rel=0.2)

    def test_a_crowded_batch_costs_though_its_first_tokens_are_quick(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", params=Params(explore_ratio=0.0))
        driver = Driver(fleet)
        for i in range(60):
            fleet.first_token(driver.send(0.0, exclude=("us-east/b",)), 0.05)
            assert fleet.backends["us-east/a"].inflight == i + 1
        assert driver.send(0.2).backend == "us-east/b"

    def test_the_toll_is_the_same_at_all_backends_of_a_model(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        for i in range(100):
            driver.serve(i * 0.05, pin_region="us-east", prompt_tokens=500)
        tolls = {b.lanes[MODEL].rates.toll for b in fleet.backends.values()}
        assert len(tolls) == 1
        assert tolls.pop() > 0.0

    def test_distance_is_the_first_guess(self) -> None:
        fleet = fleet_of(*NAMES)
        rtts = {name: b.rtt_s for name, b in fleet.backends.items()}
        assert rtts["us-east/a"] == 0.001
        assert rtts["us-east/a"] < rtts["us-west/a"] < rtts["eu-west/a"] < rtts["ap-east/a"] < 0.25
        assert rtts["eu-west/a"] == pytest.approx(0.08, abs=0.015)  # measured: Washington DC - London 75 ms

    def test_a_late_first_token_drives_requests_away_before_any_timeout(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        for i in range(20):
            driver.serve(i * 0.1, ttft_s=0.05)
        frozen = driver.send(2.0)
        assert frozen.backend == "us-east/a"
        assert driver.send(2.6).backend == "us-west/a"

    def test_a_scrape_adds_only_what_is_beyond_our_own(self) -> None:
        fleet = fleet_of("us-east/a")
        backend = fleet.backends["us-east/a"]
        driver = Driver(fleet)
        for _ in range(4):
            driver.send(0.0)
        fleet.observe_load("us-east/a", LoadSample(1.0, running=4, waiting=0), 1.0)
        assert backend.others_inflight == 0
        fleet.observe_load("us-east/a", LoadSample(2.0, running=7, waiting=2), 2.0)
        assert backend.others_inflight == 5
        driver.send(3.0)  # sent after the next scrape was taken: not part of it
        fleet.observe_load("us-east/a", LoadSample(2.9, running=7, waiting=2), 3.1)
        assert backend.others_inflight == 5

    def test_an_old_scrape_is_unknown_and_unknown_is_neutral(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b")
        for name, running in (("us-east/a", 10), ("us-east/b", 20)):
            fleet.observe_load(name, LoadSample(0.0, running=running, waiting=0, kv_ratio=0.5), 0.0)
        assert fleet.backends["us-east/a"].others_inflight == 10
        fleet.observe_load("us-east/b", LoadSample(8.0, running=20, waiting=0, kv_ratio=0.5), 8.0)
        Driver(fleet).send(8.0)
        assert fleet.backends["us-east/a"].others.fresh_load(8.0) is None
        assert fleet.backends["us-east/a"].others_inflight == 20, "as busy as those that are known"

    def test_peers_fade(self) -> None:
        fleet = fleet_of("us-east/a")
        backend = fleet.backends["us-east/a"]
        driver = Driver(fleet)
        fleet.observe_peers("us-east/a", 30, 9000, 0.0)
        assert (backend.others_inflight, backend.others_tokens) == (30, 9000)
        driver.send(1.75)
        assert 10 < backend.others_inflight < 20
        driver.send(4.0)
        assert backend.others_inflight == 0

    def test_a_gray_backend_is_ejected(self) -> None:
        names = ("us-east/a", "us-east/b", "us-east/c", "us-east/d")
        fleet = fleet_of(*names)
        driver = Driver(fleet, "round_robin")
        now_s = 0.0
        while now_s < 60.0:
            lease = driver.send(now_s)
            slow = lease.backend == "us-east/c" and now_s > 20.0
            fleet.first_token(lease, now_s + (4.0 if slow else 0.1))
            fleet.end(lease, Outcome.OK, now_s + 5.0)
            if any(b.state is State.EJECTED for b in fleet.backends.values()):
                break
            now_s += 0.1
        assert fleet.backends["us-east/c"].state is State.EJECTED
        assert not fleet.backends["us-east/c"].health.down
        assert 20.0 < now_s < 40.0

    def test_a_backend_that_was_always_slower_is_not_gray(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", "us-east/c", "us-east/d")
        driver = Driver(fleet, "round_robin")
        for i in range(600):
            lease = driver.send(i * 0.1)
            fleet.first_token(lease, i * 0.1 + (2.0 if lease.backend == "us-east/c" else 0.1))
            fleet.end(lease, Outcome.OK, i * 0.1 + 3.0)
        assert all(b.state is State.HEALTHY for b in fleet.backends.values())


def decisions(seed: int, policy: str) -> list[tuple[str, float | None]]:
    driver = Driver(fleet_of(*NAMES), policy, seed)
    taken = []
    for i in range(120):
        lease = driver.send(i * 0.01, prefix_blocks=(i % 7, i % 3), tokens_per_block=20.0, affinity=str(i % 5))
        if i % 3:
            driver.fleet.first_token(lease, i * 0.01 + 0.05)
        taken.append((lease.backend, lease.predicted_ttft_s))
    return taken


@pytest.mark.parametrize("policy", POLICIES)
def test_a_decision_is_a_function_of_what_it_is_given(policy: str) -> None:
    assert decisions(5, policy) == decisions(5, policy)


OUTCOMES = st.sampled_from(list(Outcome))


class FleetMachine(RuleBasedStateMachine):
    """Any sequence of requests, endings, observations, drains and reloads."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.live: list[Lease] = []
        self.ended = 0

    @initialize(policy=st.sampled_from(sorted(POLICIES)), seed=st.integers(0, 9), limit=st.integers(1, 6))
    def begin(self, policy: str, seed: int, limit: int) -> None:
        self.limit = limit
        self.fleet = Fleet(Params(), router_region="us-east")
        self.fleet.apply([spec(name, max_inflight=limit) for name in NAMES], 0.0)
        self.policy = POLICIES[policy](self.fleet.params)
        self.rng = random.Random(seed)

    @rule(passed_s=st.floats(0.0, 20.0))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s

    @rule(
        residency=st.sampled_from([None, frozenset({"eu"}), frozenset({"us", "jp"})]),
        pin=st.sampled_from([None, None, "us-east", "eu-west"]),
        exclude=st.sets(st.sampled_from(NAMES), max_size=2),
        stream=st.booleans(),
        blocks=st.lists(st.integers(0, 5), max_size=4),
        dry=st.booleans(),
    )
    def request(
        self,
        residency: frozenset[str] | None,
        pin: str | None,
        exclude: set[str],
        stream: bool,
        blocks: list[int],
        dry: bool,
    ) -> None:
        request = ask(
            residency=residency,
            pin_region=pin,
            stream=stream,
            prefix_blocks=tuple(blocks),
            tokens_per_block=10.0,
            tenant=self.rng.choice("ab"),
        )
        before = {name: b.inflight for name, b in self.fleet.backends.items()}
        decision = self.fleet.decide(request, self.policy, self.now_s, self.rng, exclude=exclude, dry_run=dry)
        assert sorted(c.backend for c in decision.candidates) == sorted(self.fleet.backends)
        if not isinstance(decision, Dispatch):
            assert before == {name: b.inflight for name, b in self.fleet.backends.items()}
            return
        backend = self.fleet.backends[decision.lease.backend]
        assert not backend.draining
        assert residency is None or backend.jurisdiction in residency
        assert pin is None or backend.region == pin
        assert backend.name not in exclude
        assert before[backend.name] < backend.capacity.limit
        if backend.state is State.EJECTED:
            others = [b for b in self.fleet.backends.values() if b is not backend and b.usable(self.now_s)]
            last = "panic" in decision.reason or backend.health.down
            assert last or not others
            assert decision.lease.probation
        if not dry:
            self.live.append(decision.lease)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 10**6))
    def first_token(self, which: int) -> None:
        self.fleet.first_token(self.live[which % len(self.live)], self.now_s)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 10**6), outcome=OUTCOMES, retry_after_s=st.none() | st.floats(0.0, 60.0))
    def end(self, which: int, outcome: Outcome, retry_after_s: float | None) -> None:
        lease = self.live.pop(which % len(self.live))
        self.fleet.end(lease, outcome, self.now_s, Usage(100, 20, 30, True), retry_after_s=retry_after_s)
        self.ended += 1

    @rule(name=st.sampled_from(NAMES), ok=st.booleans())
    def probe(self, name: str, ok: bool) -> None:
        self.fleet.observe_health(name, ok, self.now_s)
        self.fleet.observe_rtt(name, 0.05 if ok else None, self.now_s)

    @rule(name=st.sampled_from(NAMES), running=st.integers(0, 9), waiting=st.integers(0, 9), kv=st.floats(0.0, 1.0))
    def scrape(self, name: str, running: int, waiting: int, kv: float) -> None:
        sample = LoadSample(self.now_s, running=running, waiting=waiting, kv_ratio=kv, kv_capacity_tokens=1e5)
        self.fleet.observe_load(name, sample, self.now_s)

    @rule(name=st.sampled_from([*NAMES, *REGIONS]), draining=st.booleans())
    def drain(self, name: str, draining: bool) -> None:
        self.fleet.set_draining(name, draining)

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1), url=st.sampled_from(["http://one", "http://two"]))
    def reload(self, names: set[str], url: str) -> None:
        self.fleet.apply([spec(n, max_inflight=self.limit, url=url) for n in sorted(names)], self.now_s)

    @invariant()
    def counts_are_exact(self) -> None:
        if not hasattr(self, "fleet"):
            return
        self.fleet.audit()
        assert self.fleet.leases == set(self.live)
        for b in (*self.fleet.backends.values(), *self.fleet.retired.values()):
            assert b.inflight >= 0
            assert b.prompts.tokens >= 0
            assert all(lane.quote[0] >= 0.0 for lane in b.lanes.values())

    def teardown(self) -> None:
        if hasattr(self, "fleet"):
            for lease in self.live:
                self.fleet.end(lease, Outcome.CLIENT_GONE, self.now_s)
            self.live = []
            self.fleet.audit()
            assert not self.fleet.retired
            assert all(b.inflight == 0 for b in self.fleet.backends.values())


TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = examples(1, stateful_step_count=40)
