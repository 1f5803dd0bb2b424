"""Health: the table is total and sound, and the counters raise the right events."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.health import JUDGED, TABLE, Effect, Event, Health, State
from router.core.outcomes import CONSEQUENCES, OnHealth, Outcome, Retry
from router.core.params import Params
from tests.support.effort import examples

PARAMS = Params()


def fire(health: Health, event: Event | None, now_s: float) -> None:
    if event is not None:
        health.fire(event, now_s)


def fault(health: Health, now_s: float, *, tenant: str = "t", unreachable: bool = False, weight: float = 1.0) -> None:
    fire(health, health.fault(now_s, now_s, tenant, weight=weight, unreachable=unreachable), now_s)


def success(health: Health, now_s: float, tenant: str = "t") -> None:
    fire(health, health.success(now_s, now_s, tenant), now_s)


def ejected(now_s: float = 0.0, *, down: bool) -> Health:
    health = Health(PARAMS, now_s)
    health.fire(Event.DOWN if down else Event.TRIP, now_s)
    return health


class TestTable:
    def test_it_is_total(self) -> None:
        assert set(TABLE) == set(product(State, Event))

    def test_every_state_can_be_left_and_reached(self) -> None:
        steps = {(state, after) for (state, _), (after, _) in TABLE.items() if after is not state}
        assert {state for state, _ in steps} == set(State)
        assert {after for _, after in steps} == set(State)

    def test_ejection_is_left_through_probation_only(self) -> None:
        after = {after for (state, _), (after, _) in TABLE.items() if state is State.EJECTED}
        assert after == {State.EJECTED, State.PROBATION}

    def test_entering_ejection_always_counts_it(self) -> None:
        for (state, _), (after, effect) in TABLE.items():
            enters = after is State.EJECTED and state is not State.EJECTED
            assert enters == (effect in (Effect.EJECT_DOWN, Effect.EJECT_JUDGED))

    def test_probes_in_doubt_never_eject(self) -> None:
        assert all(
            TABLE[state, Event.PROBES_DOUBTED][0] is not State.EJECTED for state in State if state is not State.EJECTED
        )

    def test_judgement_softened_to_a_fault_does_not_eject_a_served_backend(self) -> None:
        for state, event in product((State.HEALTHY, State.SUSPECT), JUDGED):
            assert TABLE[state, event][0] is State.EJECTED
            assert TABLE[state, Event.FAULT][0] is State.SUSPECT

    def test_consequences_cover_every_outcome(self) -> None:
        assert set(CONSEQUENCES) == set(Outcome)
        for outcome in (Outcome.CLIENT_ERROR, Outcome.CLIENT_GONE, Outcome.OVERLOADED):
            assert CONSEQUENCES[outcome].on_health is OnHealth.NONE
        assert CONSEQUENCES[Outcome.CLIENT_ERROR].retry is Retry.NO


class TestFaults:
    def test_consecutive_faults_eject(self) -> None:
        health = Health(PARAMS, 0.0)
        for i in range(4):
            fault(health, i * 0.1)
        assert health.state is State.SUSPECT
        fault(health, 0.5)
        assert health.state is State.EJECTED
        assert not health.down

    def test_soft_faults_count_half(self) -> None:
        health = Health(PARAMS, 0.0)
        for i in range(9):
            fault(health, i * 0.1, weight=0.5)
        assert health.state is State.SUSPECT
        fault(health, 1.0, weight=0.5)
        assert health.state is State.EJECTED

    def test_a_success_starts_the_count_again(self) -> None:
        health = Health(PARAMS, 0.0)
        for i in range(100):
            fault(health, i * 1.0)
            success(health, i * 1.0 + 0.1)
            success(health, i * 1.0 + 0.2)
            fire(health, health.timer(i * 1.0 + 0.3), i * 1.0 + 0.3)
        assert health.state is State.HEALTHY

    def test_two_refused_connections_are_enough(self) -> None:
        health = Health(PARAMS, 0.0)
        fault(health, 0.0, unreachable=True)
        assert health.state is State.SUSPECT
        fault(health, 0.1, unreachable=True)
        assert health.state is State.EJECTED
        assert health.down

    def test_the_failure_ratio_needs_a_volume(self) -> None:
        health = Health(PARAMS, 0.0)
        for i in range(9):
            fault(health, i * 0.1)
            success(health, i * 0.1)
        assert health.state is State.HEALTHY
        fault(health, 1.0)
        success(health, 1.0)
        fault(health, 1.1)
        assert health.state is State.EJECTED, "eleven of twenty-one"

    def test_the_window_forgets(self) -> None:
        health = Health(PARAMS, 0.0)
        for i in range(60):
            now_s = i * 2.0  # ten attempts in a window are below the volume
            fault(health, now_s)
            success(health, now_s)
            fire(health, health.timer(now_s), now_s)
        assert health.state is State.HEALTHY

    def test_one_tenants_bad_requests_do_not_eject_while_others_are_served(self) -> None:
        health = Health(PARAMS, 0.0)
        for i in range(200):
            now_s = i * 0.05
            if i % 4 == 3:
                success(health, now_s, tenant="good")
            else:
                fault(health, now_s, tenant="bad")
            fire(health, health.timer(now_s), now_s)
        assert health.ejections == 0

    def test_faults_of_several_tenants_do(self) -> None:
        health = Health(PARAMS, 0.0)
        for i in range(40):
            now_s = i * 0.05
            if i % 4 == 3:
                success(health, now_s, tenant="good")
            else:
                fault(health, now_s, tenant=f"bad {i % 3}")
        assert health.ejections > 0

    def test_old_attempts_say_nothing_about_a_backend_in_probation(self) -> None:
        health = ejected(10.0, down=True)
        health.fire(Event.PROBES_GOOD, 20.0)
        assert health.fault(20.5, 9.0, "t", weight=1.0, unreachable=True) is None
        assert health.success(20.5, 9.0, "t") is None
        assert health.fault(20.6, 20.2, "t", weight=1.0, unreachable=False) is Event.FAULT
        fire(health, Event.FAULT, 20.6)
        assert health.state is State.EJECTED
        assert health.ejections == 2


class TestProbes:
    def test_three_of_five_bad_probes_eject_a_silent_backend(self) -> None:
        health = Health(PARAMS, 0.0)
        verdicts = [False, True, False, True]
        for i, ok in enumerate(verdicts):
            fire(health, health.probe(ok, 20.0 + i), 20.0 + i)
        assert health.state is State.HEALTHY
        fire(health, health.probe(False, 24.0), 24.0)
        assert health.state is State.EJECTED
        assert health.down

    def test_a_backend_that_delivers_tokens_is_only_suspected(self) -> None:
        health = Health(PARAMS, 0.0)
        for i in range(100):
            success(health, float(i))
            fire(health, health.probe(False, i + 0.5), i + 0.5)
            assert health.state is not State.EJECTED
        fire(health, health.probe(False, 99.0 + PARAMS.delivering_s), 99.0 + PARAMS.delivering_s)
        fire(health, health.probe(False, 100.0 + PARAMS.delivering_s), 100.0 + PARAMS.delivering_s)
        assert health.state is State.EJECTED

    def test_good_probes_end_the_ejection_of_a_backend_that_was_down(self) -> None:
        health = ejected(0.0, down=True)
        assert health.probe(True, 1.0) is None
        fire(health, health.probe(True, 2.0), 2.0)
        assert health.state is State.PROBATION

    def test_good_probes_do_not_end_a_judged_ejection(self) -> None:
        health = ejected(0.0, down=False)
        for i in range(9):
            assert health.probe(True, float(i)) is None
            assert health.timer(float(i)) is None
        fire(health, health.timer(PARAMS.ejection_base_s), PARAMS.ejection_base_s)
        assert health.state is State.PROBATION

    def test_a_judged_ejection_that_turns_out_to_be_down_ends_with_good_probes(self) -> None:
        health = ejected(down=False)
        for at_s in (1.0, 2.0):
            fire(health, health.probe(False, at_s), at_s)
        assert health.down
        for at_s in (3.0, 4.0):
            fire(health, health.probe(True, at_s), at_s)
        assert health.state is State.PROBATION

    def test_one_bad_probe_does_not_make_a_judged_ejection_a_certain_one(self) -> None:
        health = ejected(down=False)
        for at_s, ok in ((1.0, False), (2.0, True), (3.0, False), (4.0, True), (5.0, True), (6.0, True)):
            fire(health, health.probe(ok, at_s), at_s)
        assert not health.down
        assert health.state is State.EJECTED

    def test_a_refused_connection_counts_whenever_the_attempt_began(self) -> None:
        health = ejected(1.0, down=False)
        event = health.fault(1.1, 0.9, "t", weight=1.0, unreachable=True)
        assert event is Event.DOWN
        assert health.fire(event, 1.1)
        assert health.down
        assert not health.fire(Event.DOWN, 1.2)

    def test_it_is_away_from_the_refused_connection_until_probes_are_good(self) -> None:
        health = Health(PARAMS, 0.0)
        health.probe(True, 0.0)
        assert not health.away
        fault(health, 0.5, unreachable=True)
        assert health.away
        health.probe(True, 1.0)
        assert health.away
        health.probe(True, 2.0)
        assert not health.away

    def test_a_flapping_backend_is_held_longer_each_time(self) -> None:
        health = Health(PARAMS, 0.0)
        away, now_s = [], 0.0
        for _ in range(4):
            health.fire(Event.DOWN, now_s)
            since_s = now_s
            while health.state is State.EJECTED:
                now_s += 0.5
                fire(health, health.probe(True, now_s), now_s)
            away.append(now_s - since_s)
        assert away == sorted(away)
        assert away[0] == 1.0
        assert away[-1] == 3.0

    def test_time_does_not_return_a_backend_whose_probes_fail(self) -> None:
        health = ejected(0.0, down=True)
        for i in range(400):
            fire(health, health.probe(False, float(i)), float(i))
            fire(health, health.timer(i + 0.5), i + 0.5)
        assert health.state is State.EJECTED
        fire(health, health.timer(400.0 + PARAMS.load_fresh_s), 400.0 + PARAMS.load_fresh_s)
        assert health.state is State.PROBATION, "nobody probes it any more: let requests tell"


class TestReturn:
    def test_trials_lead_back_through_a_slow_start(self) -> None:
        health = ejected(0.0, down=True)
        health.fire(Event.PROBES_GOOD, 5.0)
        for i in range(PARAMS.trials_needed):
            assert health.state is State.PROBATION
            success(health, 6.0 + i)
        assert health.state is State.HEALTHY
        start_s = 6.0 + PARAMS.trials_needed - 1
        shares = [health.share(start_s + age) for age in (0.0, 3.0, 15.0, 29.0, 30.0)]
        assert shares == pytest.approx([0.1, 0.1, 0.5, 29 / 30, 1.0])

    def test_probation_without_trials_ends_by_time(self) -> None:
        health = ejected(0.0, down=True)
        health.fire(Event.PROBES_GOOD, 5.0)
        fire(health, health.timer(5.0 + PARAMS.probation_s), 5.0 + PARAMS.probation_s)
        assert health.state is State.HEALTHY

    def test_ejection_time_grows_and_is_capped(self) -> None:
        health = Health(PARAMS, 0.0)
        lengths = []
        for _ in range(40):
            health.fire(Event.TRIP, 0.0)
            lengths.append(health.until_s)
            health.fire(Event.TIME_UP, 0.0)
        assert lengths[:3] == [10.0, 20.0, 30.0]
        assert lengths[-1] == PARAMS.ejection_max_s

    def test_ejections_are_forgotten_one_by_one(self) -> None:
        health = ejected(0.0, down=False)
        health.fire(Event.TIME_UP, 10.0)
        health.fire(Event.TRIALS_PASSED, 11.0)
        assert health.ejections == 1
        health.timer(11.0 + PARAMS.ejection_memory_s)
        assert health.ejections == 0

    def test_an_operator_can_open_the_trials(self) -> None:
        health = ejected(0.0, down=False)
        health.fire(Event.RESET, 1.0)
        assert health.state is State.PROBATION
        assert health.ejections == 0


SIGNALS = st.one_of(
    st.tuples(st.just("success"), st.sampled_from("ab")),
    st.tuples(st.just("fault"), st.sampled_from("ab")),
    st.tuples(st.just("refused"), st.sampled_from("ab")),
    st.tuples(st.just("probe"), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0.0, 40.0)),
)


@given(st.lists(SIGNALS, max_size=80))
@examples(3)
def test_no_sequence_of_signals_locks_a_backend_out_for_ever(signals: list[tuple[str, object]]) -> None:
    health, now_s = Health(PARAMS, 0.0), 0.0
    for kind, value in signals:
        if kind == "success":
            success(health, now_s, str(value))
        elif kind in ("fault", "refused"):
            fault(health, now_s, tenant=str(value), unreachable=kind == "refused")
        elif kind == "probe":
            fire(health, health.probe(bool(value), now_s), now_s)
        else:
            now_s += float(str(value))
            fire(health, health.timer(now_s), now_s)
        assert 0.0 < health.share(now_s) <= 1.0
        if health.state in (State.EJECTED, State.PROBATION):
            assert health.until_s <= now_s + PARAMS.ejection_max_s
    for _ in range(800):  # it is well from now on: probes are good and trials succeed
        now_s += 1.0
        fire(health, health.probe(True, now_s), now_s)
        fire(health, health.timer(now_s), now_s)
        if health.state is not State.EJECTED:
            success(health, now_s)
    assert health.state is State.HEALTHY
    assert health.share(now_s) == 1.0
