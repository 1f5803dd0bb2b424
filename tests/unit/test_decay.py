"""Means, rates and sums that forget."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.decay import Ewma, Rate, kept, kept_samples

times_s = st.floats(0.0, 1000.0)
events = st.lists(st.tuples(times_s, st.floats(0.0, 100.0)), max_size=20)


class TestKept:
    @given(times_s, times_s, st.floats(0.1, 100.0))
    def test_two_steps_forget_as_much_as_one(self, a_s: float, b_s: float, memory_s: float) -> None:
        assert kept(a_s, memory_s) * kept(b_s, memory_s) == pytest.approx(kept(a_s + b_s, memory_s))

    def test_a_clock_that_goes_back_brings_nothing_back(self) -> None:
        assert kept(-5.0, 10.0) == 1.0

    @given(st.floats(0.1, 10_000.0), times_s)
    def test_no_more_samples_are_left_than_may_be(self, samples: float, passed_s: float) -> None:
        left = samples * kept_samples(samples, passed_s, 100.0, 50.0)
        assert left <= 50.0 + 1e-9
        assert left == pytest.approx(min(50.0, samples * exp(-passed_s / 100.0)))


class TestEwma:
    def test_the_first_sample_is_the_mean(self) -> None:
        mean = Ewma(0.1)
        assert mean.value is None
        assert mean.add(5.0) == mean.value == 5.0

    @given(st.floats(-100.0, 100.0), st.lists(st.floats(-100.0, 100.0), max_size=20))
    def test_it_stays_between_the_samples(self, first: float, others: list[float]) -> None:
        mean = Ewma(0.3)
        for sample in (first, *others):
            mean.add(sample)
        assert mean.value is not None
        assert min(first, *others, first) - 1e-9 <= mean.value <= max(first, *others, first) + 1e-9

    def test_it_fades(self) -> None:
        chance = Ewma(0.2, 0.0)
        chance.add(1.0)
        assert chance.fade(0.5) == chance.value == pytest.approx(0.1)


class TestRate:
    def test_a_steady_stream_is_its_own_rate(self) -> None:
        rate = Rate(10.0)
        for i in range(2000):
            rate.add(1.0, i / 20)
        assert rate.value(100.0) == pytest.approx(20.0, rel=0.02)

    @given(events, st.lists(times_s, max_size=5))
    def test_reading_alters_nothing(self, happened: list[tuple[float, float]], looks_s: list[float]) -> None:
        watched, alone = Rate(10.0), Rate(10.0)
        for at_s, count in sorted(happened):
            for look_s in looks_s:
                watched.value(look_s)
            watched.add(count, at_s)
            alone.add(count, at_s)
        assert watched.value(1000.0) == alone.value(1000.0)

    @given(events)
    def test_it_is_the_sum_of_what_each_event_left(self, happened: list[tuple[float, float]]) -> None:
        rate = Rate(10.0)
        for at_s, count in sorted(happened):
            rate.add(count, at_s)
        assert rate.value(1000.0) == pytest.approx(sum(c / 10.0 * exp((t - 1000.0) / 10.0) for t, c in happened))
