"""The retry budget: never more than the share and the floor, whatever the sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.decisions import Dispatch, Reject, Wait
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.retry import RetryBudget
from tests.support.effort import examples
from tests.support.fleets import Driver, ask, fleet_of, spec

PARAMS = Params()


def test_a_quiet_region_has_the_floor() -> None:
    budget = RetryBudget(PARAMS)
    assert [budget.take(1000.0) for _ in range(101)] == [True] * 100 + [False]
    assert not budget.take(1000.5)
    assert budget.take(1011.0), "ten seconds later the window is empty again"


def test_requests_earn_a_fifth_of_a_retry_each() -> None:
    budget = RetryBudget(PARAMS)
    budget.requests(500, 5.0)
    assert sum(budget.take(5.0) for _ in range(1000)) == 200


def test_the_window_slides_part_by_part() -> None:
    budget = RetryBudget(PARAMS)
    for second in range(10):
        budget.requests(100, float(second))
    assert budget.left(9.5) == 300.0
    assert budget.left(10.5) == 280.0
    assert budget.left(14.5) == 200.0
    assert budget.left(30.0) == 100.0


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=300))
@examples(2)
def test_retries_of_any_window_stay_within_the_budget(steps: list[tuple[float, bool]]) -> None:
    budget, now_s = RetryBudget(PARAMS), 0.0
    requests: list[float] = []
    retries: list[float] = []
    for passed_s, retry in steps:
        now_s += passed_s
        if not retry:
            budget.requests(5, now_s)
            requests += [now_s] * 5
        elif budget.take(now_s):
            retries.append(now_s)
        window_s = PARAMS.retry_window_s
        lately = sum(at > now_s - window_s + 1.0 for at in retries)  # the oldest part may be gone already
        earned = sum(at > now_s - window_s for at in requests)
        assert lately <= PARAMS.retry_floor_per_s * window_s + PARAMS.retry_ratio * earned


def test_a_request_may_leave_a_backend_that_a_reload_took_away() -> None:
    fleet = fleet_of("us-east/a", "us-east/b")
    driver = Driver(fleet)
    lease = driver.send(1.0, exclude=("us-east/b",))
    fleet.apply([spec("us-east/b")], 1.0)
    fleet.end(lease, Outcome.SERVER_ERROR, 1.1)
    assert fleet.may_retry("us-east/a", ask(), ("us-east/a",), 1.1)
    assert driver.send(1.1, exclude=("us-east/a",)).backend == "us-east/b"


def test_only_a_backend_that_it_was_not_at_makes_a_request_wait() -> None:
    driver = Driver(fleet_of("us-east/a", "us-west/a"))
    first = driver.send(0.0)
    driver.fleet.end(first, Outcome.OVERLOADED, 0.1, retry_after_s=5.0)
    second = driver.send(0.1, exclude=(first.backend,))
    tried = (first.backend, second.backend)
    driver.fleet.end(second, Outcome.OVERLOADED, 0.2, retry_after_s=5.0)
    assert isinstance(driver.fleet.decide(ask(), driver.policy, 0.2, driver.rng, exclude=tried), Reject)
    assert isinstance(driver.fleet.decide(ask(), driver.policy, 0.2, driver.rng, exclude=tried[:1]), Wait)


def test_without_hope_retries_are_a_tenth_of_the_requests() -> None:
    fleet = fleet_of("us-east/a", "us-west/a")
    driver, retries = Driver(fleet), 0
    for step in range(1000):
        now_s = step * 0.005
        lease = driver.fail(now_s, Outcome.OVERLOADED)
        if fleet.may_retry(lease.backend, ask(), (lease.backend,), now_s):
            decision = fleet.decide(ask(), driver.policy, now_s, driver.rng, exclude=(lease.backend,))
            if isinstance(decision, Dispatch):
                retries += 1
                fleet.end(decision.lease, Outcome.OVERLOADED, now_s)
    assert retries <= 120


def test_a_backend_that_does_better_is_worth_retries() -> None:
    driver = Driver(fleet_of("us-east/a", "us-west/a"))
    for step in range(20):
        driver.fail(step * 0.01, Outcome.SERVER_ERROR, pin_region="us-east")
    assert driver.fleet.may_retry("us-east/a", ask(), ("us-east/a",), 0.2)
    both = ("us-east/a", "us-west/a")
    assert sum(driver.fleet.may_retry("us-east/a", ask(), both, 0.2) for _ in range(50)) <= 5, (
        "nobody is left to hope for"
    )
