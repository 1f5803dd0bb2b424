"""What is learned about times: round trips, the line of the first token, places, rates."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.learn.backlog import Backlog, common_speed
from router.core.learn.first_token import Line, TtftFit, common_line, prior_line
from router.core.learn.least_squares import solve_bounded
from router.core.learn.rtt import RttEstimate
from router.core.learn.service import Service, common_pace, common_tokens, fitted_pace
from router.core.params import Params
from tests.support.effort import examples

PARAMS = Params()
PRIOR = prior_line(PARAMS)


class TestRtt:
    def test_unknown_until_measured(self) -> None:
        rtt = RttEstimate(PARAMS)
        assert rtt.mean_s is None
        assert rtt.floor_s is None
        assert rtt.age_s(5.0) == float("inf")

    def test_the_mean_follows_a_change_within_seconds(self) -> None:
        rtt = RttEstimate(PARAMS)
        for i in range(100):
            rtt.add(0.010, float(i))
        for i in range(3):
            rtt.add(0.150, 100.0 + i)
        assert rtt.mean_s is not None
        assert rtt.mean_s > 0.1
        assert rtt.age_s(103.0) == 1.0

    def test_the_floor_is_the_minimum_of_a_window(self) -> None:
        rtt = RttEstimate(PARAMS)
        rtt.add(0.010, 0.0)
        for i in range(1, 31):
            rtt.add(0.100, float(i))
        assert rtt.floor_s == 0.010
        for i in range(31, 91):
            rtt.add(0.100, float(i))
        assert rtt.floor_s == 0.100, "the route has changed"


def learn(
    fit: TtftFit, truth: Line, rng: random.Random, count: int, *, noise: float = 0.1, from_s: float = 0.0
) -> float:
    """Feed samples of ``truth``, ten a second, solving twice a second. Returns the time of the last."""
    now_s = from_s
    for i in range(count):
        now_s = from_s + i * 0.1
        tokens, requests = rng.uniform(10, 8000), rng.uniform(0, 30)
        fit.add(tokens, requests, truth.predict_s(tokens, requests) * rng.lognormvariate(0.0, noise), 0.0, now_s)
        if i % 5 == 4:
            fit.solve(common_line([fit], PRIOR, PARAMS), now_s)
    return now_s


class TestFit:
    def test_without_samples_the_prior_holds(self) -> None:
        fit = TtftFit(PARAMS, PRIOR, 0.0)
        fit.solve(PRIOR, 100.0)
        assert fit.line == pytest.approx(PRIOR)

    @pytest.mark.parametrize(
        "truth", [Line(0.02, 1 / 50_000, 0.0001), Line(0.2, 1 / 2000, 0.002), Line(0.05, 1 / 300, 0.0)]
    )
    def test_it_finds_the_truth_from_noisy_samples(self, truth: Line) -> None:
        fit = TtftFit(PARAMS, PRIOR, 0.0)
        learn(fit, truth, random.Random(1), 600)
        for tokens, requests in ((100, 1), (2000, 10), (6000, 25)):
            seen, real = fit.line.predict_s(tokens, requests), truth.predict_s(tokens, requests)
            assert seen == pytest.approx(real, rel=0.15, abs=0.02)

    def test_the_first_samples_help_already(self) -> None:
        truth = Line(0.1, 1 / 2000, 0.0)
        fit = TtftFit(PARAMS, PRIOR, 0.0)
        before = abs(fit.line.predict_s(4000, 0) - truth.predict_s(4000, 0))
        learn(fit, truth, random.Random(2), 10)
        assert abs(fit.line.predict_s(4000, 0) - truth.predict_s(4000, 0)) < before / 4

    def test_it_follows_an_engine_that_became_slower(self) -> None:
        rng = random.Random(3)
        fit = TtftFit(PARAMS, PRIOR, 0.0)
        now_s = learn(fit, Line(0.02, 1 / 20_000, 0.0), rng, 600)
        slow = Line(0.04, 1 / 5000, 0.0)
        now_s = learn(fit, slow, rng, 600, from_s=now_s)
        assert fit.line.predict_s(4000, 5) == pytest.approx(slow.predict_s(4000, 5), rel=0.35)

    def test_it_slides_back_to_the_prior(self) -> None:
        fit = TtftFit(PARAMS, PRIOR, 0.0)
        now_s = learn(fit, Line(0.5, 1 / 1000, 0.01), random.Random(4), 300)
        fit.solve(PRIOR, now_s + 30 * PARAMS.fit_memory_s)
        assert fit.line == pytest.approx(PRIOR, rel=0.01)

    def test_one_stall_does_not_bend_the_line(self) -> None:
        truth = Line(0.05, 1 / 10_000, 0.0005)
        fit = TtftFit(PARAMS, PRIOR, 0.0)
        now_s = learn(fit, truth, random.Random(5), 400, noise=0.05)
        before = fit.line.predict_s(1000, 5)
        fit.add(1000, 5, 60.0, 59.0, now_s)
        fit.solve(PRIOR, now_s)
        assert fit.line.predict_s(1000, 5) < 1.3 * before

    def test_the_residual_follows_at_once_and_the_line_takes_it_over(self) -> None:
        fit = TtftFit(PARAMS, PRIOR, 0.0)
        for _ in range(10):
            fit.add(100, 0, 0.5, 0.4, 0.0)
        assert 0.3 < fit.residual_s < 0.5
        fit.solve(PRIOR, 0.0)
        assert fit.line.predict_s(100, 0) + fit.residual_s == pytest.approx(0.5, abs=0.12)

    @given(
        st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 500), st.floats(-1, 100)), max_size=30), st.floats(0.0, 1e4)
    )
    @examples(3)
    def test_whatever_comes_the_line_stays_in_its_bounds(
        self, samples: list[tuple[float, float, float]], passed_s: float
    ) -> None:
        fit = TtftFit(PARAMS, PRIOR, 0.0)
        for tokens, requests, net_s in samples:
            fit.add(tokens, requests, net_s, net_s, 0.0)
            fit.solve(PRIOR, passed_s)
            assert 0.0 <= fit.line.overhead_s <= PARAMS.overhead_max_s
            assert PARAMS.prefill_min_tokens_per_s <= 1.0 / fit.line.token_s <= PARAMS.prefill_max_tokens_per_s * 1.001
            assert 0.0 <= fit.line.busy_s <= PARAMS.interference_max_s
            assert abs(fit.residual_s) < 1e4


class TestSolve:
    def test_an_unbounded_system(self) -> None:
        free = (-1e9, 1e9)
        solution = solve_bounded(((4.0, 1.0, 0.0), (1.0, 3.0, 1.0), (0.0, 1.0, 2.0)), (1.0, 2.0, 3.0), (free,) * 3)
        a, b, c = solution
        assert (4 * a + b, a + 3 * b + c, b + 2 * c) == pytest.approx((1.0, 2.0, 3.0))

    def test_a_bound_is_kept_and_the_others_make_the_best_of_it(self) -> None:
        bounds = ((0.0, 10.0), (0.0, 10.0), (0.0, 10.0))
        a, b, c = solve_bounded(((2.0, 0.0, 0.0), (0.0, 2.0, 1.0), (0.0, 1.0, 2.0)), (4.0, 6.0, -5.0), bounds)
        assert (a, b, c) == pytest.approx((2.0, 3.0, 0.0))


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


def test_long_prompts_are_told_apart_by_their_attention() -> None:
    truth = Line(0.02, 1 / 40_000, 0.0, 0.004)
    fit, rng, now_s = TtftFit(PARAMS, PRIOR, 0.0), random.Random(1), 0.0
    for i in range(600):
        tokens = rng.choice((500, 4000, 30_000, 100_000))
        mpairs = tokens * tokens / 2e6
        now_s += 0.1
        fit.add(tokens, 0.0, truth.predict_s(tokens, 0.0, mpairs), 0.0, now_s, mpairs=mpairs)
        if i % 5 == 4:
            fit.solve(common_line([fit], PRIOR, PARAMS), now_s)
    for tokens in (2000, 20_000, 80_000):
        mpairs = tokens * tokens / 2e6
        assert fit.line.predict_s(tokens, 0.0, mpairs) == pytest.approx(truth.predict_s(tokens, 0.0, mpairs), rel=0.15)


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


def test_equal_backends_with_few_samples_keep_nearly_equal_lines() -> None:
    truth, rng = Line(0.01, 1 / 40_000, 0.0005), random.Random(1)
    fits = [TtftFit(PARAMS, PRIOR, 0.0) for _ in range(6)]
    for _ in range(25):
        for fit in fits:
            tokens, requests = rng.uniform(100, 3000), rng.uniform(0, 30)
            fit.add(tokens, requests, truth.predict_s(tokens, requests) * rng.lognormvariate(0.0, 0.5), 0.0, 0.0)
    for _ in range(4):
        common = common_line(fits, PRIOR, PARAMS)
        for fit in fits:
            fit.solve(common, 0.0)
    slopes = [fit.line.token_s for fit in fits]
    assert max(slopes) < 1.4 * min(slopes)


def test_a_slower_backend_is_told_apart_by_its_pace() -> None:
    truth, rng = Line(0.01, 1 / 40_000, 0.0005), random.Random(1)
    fits = [TtftFit(PARAMS, PRIOR, 0.0) for _ in range(3)]
    for _ in range(200):
        for factor, fit in zip((1.0, 1.0, 4.0), fits, strict=True):
            tokens = rng.uniform(100, 8000)
            fit.add(tokens, 5.0, factor * truth.predict_s(tokens, 5.0), 0.0, 0.0)
    for _ in range(10):
        common = common_line(fits, PRIOR, PARAMS)
        for fit in fits:
            fit.solve(common, 0.0)
    quick, _, slow = (fit.line.predict_s(4000, 5.0) for fit in fits)
    assert quick == pytest.approx(truth.predict_s(4000, 5.0), rel=0.15)
    assert slow == pytest.approx(4.0 * truth.predict_s(4000, 5.0), rel=0.15)


def test_what_backends_have_in_common_is_fitted_over_all_of_them() -> None:
    truth = Line(0.02, 1 / 40_000, 0.0)
    fits = [TtftFit(PARAMS, PRIOR, 0.0) for _ in range(3)]
    # Each alone has seen only one kind of prompt, which tells overhead and slope apart for nobody.
    for fit, tokens in zip(fits, (200, 3000, 9000), strict=True):
        for i in range(40):
            fit.add(tokens, 0.0, truth.predict_s(tokens, 0.0), 0.0, i * 0.1)
    line = common_line(fits, PRIOR, PARAMS)
    for tokens in (500, 5000):
        assert line.predict_s(tokens, 0.0) == pytest.approx(truth.predict_s(tokens, 0.0), rel=0.1)
    assert common_line([], PRIOR, PARAMS) == PRIOR


def settle(backlogs: list[Backlog], now_s: float) -> None:
    common = common_speed([backlog.fade(now_s) for backlog in backlogs], PARAMS)
    for backlog in backlogs:
        backlog.settle(common)


class TestBacklog:
    def test_it_starts_at_full_speed(self) -> None:
        assert Backlog(PARAMS).speed == 1.0

    def test_waiting_longer_than_the_work_takes_is_slow(self) -> None:
        backlog = Backlog(PARAMS)
        for i in range(30):
            backlog.waited(0.5, 2.0, i * 0.1)
        settle([backlog], 3.0)
        assert backlog.speed == pytest.approx(0.31, abs=0.05)

    def test_it_recovers_and_stays_within_bounds(self) -> None:
        backlog = Backlog(PARAMS)
        for i in range(30):
            backlog.waited(0.1, 60.0, i * 0.1)
        assert backlog.speed == PARAMS.speed_min_ratio
        for i in range(40):
            backlog.waited(1.0, 1.0, 3.0 + i * 0.1)
        assert backlog.speed == pytest.approx(1.0, abs=0.1)
        for i in range(40):
            backlog.waited(50.0, 0.0, 10.0 + i * 0.1)
        assert backlog.speed == PARAMS.speed_max_factor

    def test_one_that_nobody_is_sent_to_any_more_does_not_stay_slow(self) -> None:
        avoided, quick = Backlog(PARAMS), Backlog(PARAMS)
        for i in range(30):
            avoided.waited(0.5, 2.0, i * 0.1)
        for i in range(400):
            quick.waited(1.0, 1.0, i * 0.1)
        settle([avoided, quick], 3.0)
        assert avoided.speed < 0.45
        settle([avoided, quick], 40.0)
        assert avoided.speed == pytest.approx(quick.speed, abs=0.1)

    def test_what_others_meet_is_expected_where_nothing_was_met(self) -> None:
        backlogs = [Backlog(PARAMS) for _ in range(4)]
        for i in range(30):
            for backlog in backlogs[:3]:
                backlog.waited(0.5, 2.0, i * 0.1)
        settle(backlogs, 3.0)
        assert backlogs[3].speed == pytest.approx(backlogs[0].speed, rel=0.1)


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
