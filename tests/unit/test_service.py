"""Places in a batch, rates, and the time between tokens."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.learn.least_squares import solve_bounded
from router.core.learn.service import Service, common_pace, common_tokens, fitted_pace
from router.core.params import Params

PARAMS = Params()


class TestService:
    def test_places_are_unknown_until_somebody_waits(self) -> None:
        service = Service(PARAMS, 0.0)
        for i in range(10):
            service.seen(running=20, waiting=0, kv_ratio=0.9, now_s=float(i))
        assert service.slots == float("inf")
        assert service.place_s == 0.0
        for i in range(3):
            assert service.slots == float("inf")
            service.seen(running=32, waiting=4 + i, kv_ratio=0.5, now_s=10.0 + i)
        assert service.slots == 32
        service.tick(12.0 + PARAMS.slots_memory_s + 1.0, 0, 0)
        assert service.slots == float("inf")

    def test_waiting_for_somebody_elses_prefill_is_no_sign_of_full_places(self) -> None:
        service = Service(PARAMS, 0.0)
        for i in range(50):
            service.seen(running=1 + i % 3, waiting=2, kv_ratio=0.3, now_s=float(i))
            service.seen(running=1, waiting=0, kv_ratio=0.3, now_s=i + 0.5)
        assert service.slots == float("inf")

    def test_a_full_kv_cache_limits_the_places_though_their_number_varies(self) -> None:
        service = Service(PARAMS, 0.0)
        for i, running in enumerate((30, 28, 29)):
            service.seen(running=running, waiting=9, kv_ratio=0.99, now_s=float(i))
        assert service.slots == 29

    def test_a_guess_that_was_too_low_is_dropped(self) -> None:
        service = Service(PARAMS, 0.0)
        for i in range(3):
            service.seen(running=4, waiting=1, kv_ratio=None, now_s=float(i))
        assert service.slots == 4
        service.seen(running=9, waiting=1, kv_ratio=None, now_s=3.0)
        assert service.slots == float("inf")

    def test_there_are_no_fewer_places_than_were_ever_taken(self) -> None:
        service = Service(PARAMS, 0.0)
        service.seen(running=5, waiting=0, kv_ratio=0.1, now_s=0.0)
        for i in range(1, 10):
            service.seen(running=1, waiting=1, kv_ratio=0.1, now_s=float(i))
        assert service.slots == float("inf")
        for i in range(10, 13):
            service.seen(running=3, waiting=9, kv_ratio=0.99, now_s=float(i))
        assert service.slots == 3, "long prompts fill the memory: fewer fit"

    def test_places_that_requests_refute_are_dropped(self) -> None:
        service = Service(PARAMS, 0.0)
        for i in range(3):
            service.seen(running=1, waiting=1, kv_ratio=0.1, now_s=float(i))
        assert service.slots == 1
        for came_s in (0.1, 0.1, 60.0, 0.1, 0.1):
            service.refute(came_s, 2.0)
            assert service.slots == 1
        service.refute(0.1, 2.0)
        assert service.slots == float("inf")
        for i in range(3, 9):
            service.seen(running=1, waiting=1, kv_ratio=0.1, now_s=float(i))
        assert service.slots == float("inf"), "three were served at a time"

    def test_whole_answers_tell_how_long_a_place_is_taken(self) -> None:
        service = Service(PARAMS, 0.0)
        for _ in range(10):
            service.took(0.1)
        assert service.mean_s < 0.6, "the first answers replace the guess"
        for _ in range(50):
            service.took(0.1)
        assert service.mean_s == pytest.approx(0.1, rel=0.05)

    def test_a_free_place_comes_at_the_rate_of_answers(self) -> None:
        service = Service(PARAMS, 0.0)
        for _ in range(100):
            service.answered(8.0, 100)
        for i in range(3):
            service.seen(running=16, waiting=1, kv_ratio=None, now_s=float(i))
        assert service.place_s == pytest.approx(0.5, rel=0.01)

    def test_rates_are_those_of_the_last_seconds(self) -> None:
        service = Service(PARAMS, 0.0)
        requests = tokens = 0
        for i in range(1, 1001):
            requests, tokens = requests + 2, tokens + 500
            service.answered(1.0, 40)
            assert service.tick(i * 0.1, requests, tokens) == 2
        assert service.asked_per_s == pytest.approx(20.0, rel=0.02)
        assert service.asked_tokens_per_s == pytest.approx(5000.0, rel=0.02)
        assert service.output_tokens_per_s == pytest.approx(400.0, rel=0.02)
        service.tick(200.0, requests, tokens)
        assert service.output_tokens_per_s < 0.1


@given(
    st.lists(st.tuples(st.floats(0.01, 3.0), st.integers(0, 300), st.floats(0.0, 5.0)), max_size=30),
    st.floats(0.0, 0.1),
    st.floats(0.0, 0.005),
)
def test_the_pace_of_answers_is_the_bounded_least_squares_fit(
    samples: list[tuple[float, int, float]], itl_s: float, busy_s: float
) -> None:
    params = Params()
    n, sr, srr = (sum(w * r**power for w, r, _ in samples) for power in range(3))
    sy, sry = (sum(w * r**power * y for w, r, y in samples) for power in range(2))
    weight = params.itl_prior_samples
    weight_r = weight * params.itl_prior_spread_requests**2
    expected = solve_bounded(
        ((n + weight, sr), (sr, srr + weight_r)),
        (sy + weight * itl_s, sry + weight_r * busy_s),
        ((0.0, params.itl_max_s), (0.0, params.itl_busy_max_s)),
    )
    assert fitted_pace((n, sr, srr, sy, sry), (itl_s, busy_s), params) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_pace_of_answers_is_learned_with_the_batch() -> None:
    service = Service(PARAMS, 0.0)
    rng = random.Random(2)
    for _ in range(300):
        requests = rng.randrange(2, 80)
        service.answered(99 * (0.01 + requests * 0.0005), 100, float(requests))
    service.solve(common_pace([service], PARAMS), PARAMS.answer_prior_tokens, 1.0)
    assert service.itl_s == pytest.approx(0.01, rel=0.1)
    assert service.itl_busy_s == pytest.approx(0.0005, rel=0.1)
    assert common_tokens([service, Service(PARAMS, 0.0)], PARAMS) == pytest.approx(service.answer_tokens, rel=0.05)


def test_equal_engines_keep_nearly_equal_times_between_tokens() -> None:
    rng = random.Random(3)
    services = [Service(PARAMS, 0.0) for _ in range(6)]
    for service in services:
        for _ in range(20):
            requests = rng.randrange(80, 120)
            service.answered(99 * (0.01 + requests * 0.0005) * rng.lognormvariate(0.0, 0.4), 100, float(requests))
    for _ in range(4):
        common = common_pace(services, PARAMS)
        for service in services:
            service.solve(common, PARAMS.answer_prior_tokens, 1.0)
    each = [service.itl_busy_s for service in services]
    assert max(each) < 1.25 * min(each)


def test_a_slower_engine_is_told_apart_by_the_pace_of_its_answers() -> None:
    services = [Service(PARAMS, 0.0) for _ in range(3)]
    for _ in range(200):
        for factor, service in zip((1.0, 1.0, 4.0), services, strict=True):
            service.answered(99 * factor * (0.01 + 20 * 0.0005), 100, 20.0)
    for _ in range(10):
        common = common_pace(services, PARAMS)
        for service in services:
            service.solve(common, PARAMS.answer_prior_tokens, 1.0)
    quick, _, slow = (service.itl_s + 20 * service.itl_busy_s for service in services)
    assert slow == pytest.approx(4.0 * quick, rel=0.2)
