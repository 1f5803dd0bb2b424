"""The line of the first token: what a backend's samples teach, and what all have in common."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.learn.first_token import Line, TtftFit, common_line, prior_line
from router.core.params import Params
from tests.support.effort import examples

PARAMS = Params()
PRIOR = prior_line(PARAMS)


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
