"""Who fails comes last, and failing never makes a backend look better."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.candidates import comes_last
from router.core.decisions import Dispatch, Reject, Struck
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import POLICIES
from router.core.reputation import Reputation
from router.core.types import Usage
from tests.support.effort import examples
from tests.support.fleets import Driver, ask, fleet_of

A, B = "us-east/a", "us-west/a"
BLOCKS = tuple(range(50))

failures = st.lists(
    st.tuples(
        st.sampled_from(
            [
                Outcome.SERVER_ERROR,
                Outcome.OVERLOADED,
                Outcome.UNREACHABLE,
                Outcome.FIRST_TOKEN_TIMEOUT,
                Outcome.TRUNCATED,
            ]
        ),
        st.floats(0.0, 0.2),
        st.integers(0, 20_000),
    ),
    min_size=1,
    max_size=8,
)


class TestStanding:
    def test_one_failure_is_none(self) -> None:
        reputation = Reputation(Params())
        reputation.failed(Outcome.SERVER_ERROR, 0.0)
        assert not reputation.comes_last(0.0, silent=False, retry=False)
        assert reputation.comes_last(0.0, silent=False, retry=True), "a retry is pickier"

    def test_moments_grow_while_it_fails_and_end_when_it_serves(self) -> None:
        reputation, holds = Reputation(Params()), []
        for at_s in range(20):
            reputation.failed(Outcome.SERVER_ERROR, float(at_s))
            holds.append(max(0.0, reputation.held_until_s - at_s))
        assert holds[:6] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
        assert set(holds[6:]) == {10.0}
        assert reputation.answered()
        assert not reputation.comes_last(19.0, silent=False, retry=True)

    def test_one_request_finds_out(self) -> None:
        reputation = Reputation(Params())
        for _ in range(2):
            reputation.failed(Outcome.SERVER_ERROR, 0.0)
        assert not reputation.comes_last(0.6, silent=False, retry=False)
        reputation.begun(0.6)
        assert reputation.comes_last(0.7, silent=False, retry=False)

    def test_what_fails_after_its_first_token_comes_last_too(self) -> None:
        driver = Driver(fleet_of(A, B))
        for i in range(8):
            lease = driver.send(i * 0.5, pin_region="us-east")
            driver.fleet.first_token(lease, i * 0.5 + 0.05)
            driver.fleet.end(lease, Outcome.TRUNCATED, i * 0.5 + 0.1)
        assert comes_last(driver.fleet.backends[A], Params(), 3.7, retry=False)

    def test_silence_while_the_probe_fails_is_bounded(self) -> None:
        driver = Driver(fleet_of(A, B))
        b = driver.fleet.backends[A]
        driver.fleet.observe_rtt(A, 0.01, 0.0)
        driver.fleet.observe_health(A, False, 0.0)
        for _ in range(2):
            driver.send(0.0, pin_region="us-east")
        assert not comes_last(b, Params(), 0.0, retry=False)
        lease = driver.send(0.0, pin_region="us-east")
        assert comes_last(b, Params(), 0.0, retry=False)
        driver.fleet.first_token(lease, 0.1)
        assert not comes_last(b, Params(), 0.1, retry=False)
        for _ in range(3):
            driver.send(0.2, pin_region="us-east")
        assert comes_last(b, Params(), 0.2, retry=False)
        driver.fleet.observe_health(A, True, 0.3)
        assert not comes_last(b, Params(), 0.3, retry=False)


class TestDecisions:
    def test_others_come_first_and_the_decision_says_why(self) -> None:
        driver = Driver(fleet_of(A, B))
        for _ in range(2):
            driver.fail(0.0, Outcome.SERVER_ERROR, exclude=(B,))
        decision = driver.fleet.decide(ask(), driver.policy, 0.1, driver.rng)
        assert isinstance(decision, Dispatch)
        assert decision.lease.backend == B
        assert {c.backend: c.struck for c in decision.candidates}[A] is Struck.FAILING

    def test_when_all_fail_first_attempts_go_on_and_retries_do_not(self) -> None:
        driver = Driver(fleet_of(A, B))
        for name in (A, B):
            for _ in range(2):
                driver.fail(0.0, Outcome.SERVER_ERROR, exclude=tuple({A, B} - {name}))
        first = driver.fleet.decide(ask(), driver.policy, 0.1, driver.rng)
        assert isinstance(first, Dispatch)
        again = driver.fleet.decide(ask(), driver.policy, 0.1, driver.rng, exclude=(first.lease.backend,))
        assert isinstance(again, Reject)

    def test_a_retry_prefers_those_that_serve(self) -> None:
        driver = Driver(fleet_of(A, B, "eu-west/a"))
        driver.fail(0.0, Outcome.SERVER_ERROR, exclude=(A, "eu-west/a"))  # at B
        lease = driver.send(0.1, exclude=(A,))
        assert lease.backend == "eu-west/a", "though it is farther away"


def warm() -> Driver:
    driver = Driver(fleet_of(A, B))
    for i in range(4):
        for region in ("us-east", "us-west"):
            driver.serve(i * 0.5, pin_region=region)
    return driver


def cost_at_a(driver: Driver, policy: str, now_s: float) -> float:
    """What a request of a known prompt would cost there; infinite when others come first."""
    request = ask(prompt_tokens=5000, prefix_blocks=BLOCKS, tokens_per_block=100.0)
    decision = driver.fleet.decide(request, POLICIES[policy](driver.fleet.params), now_s, driver.rng, dry_run=True)
    candidate = next(c for c in decision.candidates if c.backend == A)
    return float("inf") if candidate.struck is not None or candidate.cost_s is None else candidate.cost_s


@examples(1)
@given(failures)
def test_a_backend_that_failed_is_never_predicted_faster_for_it(ends: list[tuple[Outcome, float, int]]) -> None:
    driver, clean, now_s = warm(), warm(), 4.0
    for outcome, takes_s, tokens in ends:
        lease = driver.send(
            now_s, pin_region="us-east", prompt_tokens=tokens, prefix_blocks=BLOCKS, tokens_per_block=tokens / 50
        )
        if outcome is Outcome.TRUNCATED:  # after a first token the prompt was computed, and is cached
            driver.fleet.first_token(lease, now_s + takes_s)
        now_s += takes_s
        driver.fleet.end(lease, outcome, now_s, Usage(tokens, 0, None, True))
    computed = any(outcome is Outcome.TRUNCATED for outcome, _, _ in ends)
    for policy in ("ttft",) if computed else ("ttft", "least_inflight", "prefix", "gorgo", "dynamo"):
        assert cost_at_a(driver, policy, now_s) >= cost_at_a(clean, policy, now_s) - 1e-9, policy


def test_who_has_never_answered_and_fails_its_probe_comes_last() -> None:
    """A certificate that is not good, a wrong port: the first request must not be what finds it out."""
    fleet = fleet_of(A, B)
    fleet.observe_health(A, False, 0.0)
    assert comes_last(fleet.backends[A], Params(), 0.0, retry=False)
    fleet.observe_health(A, True, 1.0)
    assert not comes_last(fleet.backends[A], Params(), 1.0, retry=False)
    fleet.observe_rtt(A, 0.01, 1.0)
    fleet.observe_health(A, False, 2.0)
    assert not comes_last(fleet.backends[A], Params(), 2.0, retry=False), (
        "one lost probe of a backend that answers says little"
    )
