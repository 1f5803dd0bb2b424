"""How many requests a backend may have in flight: lowered when it refuses, raised by answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.capacity import Capacity
from router.core.params import Params

PARAMS = Params()


def test_one_round_of_refusals_lowers_it_once() -> None:
    capacity = Capacity(PARAMS, 100)
    capacity.refused(49, started_s=1.0, now_s=2.0)
    assert (capacity.limit, capacity.lowered) == (50 * PARAMS.limit_backoff_ratio, True)
    capacity.refused(30, started_s=1.5, now_s=2.5)  # was sent before the first refusal was known
    assert capacity.limit == 50 * PARAMS.limit_backoff_ratio
    capacity.refused(30, started_s=2.0, now_s=3.0)
    assert capacity.limit == 31 * PARAMS.limit_backoff_ratio


def test_answers_raise_it_by_one_per_round_up_to_what_is_configured() -> None:
    capacity = Capacity(PARAMS, 12)
    capacity.refused(9, started_s=0.0, now_s=0.0)
    before = capacity.limit
    for _ in range(8):
        capacity.answered()
    assert capacity.limit == pytest.approx(before + 1.0, abs=0.1)
    for _ in range(100):
        capacity.answered()
    assert (capacity.limit, capacity.lowered) == (12.0, False)


def test_it_is_left_alone_for_as_long_as_it_asked_within_bounds() -> None:
    capacity = Capacity(PARAMS, 1)
    capacity.leave_alone(5.0, now_s=10.0)
    capacity.leave_alone(1.0, now_s=10.0)
    assert capacity.not_before_s == 15.0
    capacity.leave_alone(10_000.0, now_s=10.0)
    assert capacity.not_before_s == 10.0 + PARAMS.retry_after_max_s


@given(st.integers(1, 500), st.lists(st.one_of(st.none(), st.integers(0, 500)), max_size=60))
def test_it_stays_between_one_and_what_is_configured(most: int, events: list[int | None]) -> None:
    """``None``: a whole answer; a number: a refusal with as many in flight."""
    capacity = Capacity(PARAMS, most)
    for now_s, inflight in enumerate(events):
        if inflight is None:
            capacity.answered()
        else:
            capacity.refused(inflight, float(now_s), float(now_s))
        assert 1.0 <= capacity.limit <= most
        assert capacity.lowered == (capacity.limit < most)
