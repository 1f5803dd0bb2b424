"""When the requests of a backend that goes away are handed over, and how quickly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.configured import Configured
from router.core.leaving import Notice, Pace, Withdrawals
from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec
from tests.support.effort import examples

PARAMS = Params()


@pytest.mark.parametrize(
    ("whole_s", "window"),
    [
        (120, (85, 115)),  # the last half minute, and five seconds to spare
        (600, (565, 595)),
        (30, (13.5, 27)),  # the last half of what is left when a tenth is spared
        (2, (0.9, 1.8)),
        (0, (0, 0)),
        (-5, (-5, -5)),
    ],
)
def test_the_window_is_the_end_of_the_notice(whole_s: float, window: tuple[float, float]) -> None:
    assert Notice(0.0, whole_s).window(PARAMS) == pytest.approx(window)


def _handed_over(left: int, whole_s: float, step_s: float, ending_per_step: int = 0) -> list[tuple[float, int]]:
    """When how many were handed over; some end by themselves meanwhile."""
    pace, notice, out, now_s = Pace(), Notice(0.0, whole_s), [], 0.0
    while now_s < whole_s + 1:
        now_s += step_s
        left = max(0, left - ending_per_step)
        due = pace.due(left, notice, PARAMS, now_s)
        assert 0 <= due <= left
        left -= due
        if due:
            out.append((now_s, due))
    assert left == 0
    return out


def test_they_go_evenly() -> None:
    out = _handed_over(300, 120, 0.05)
    assert sum(count for _, count in out) == 300
    assert 85 <= out[0][0] <= 85.3
    assert max(count for _, count in out) <= 3, "never many at once"
    halfway = sum(count for at_s, count in out if at_s <= 100)
    assert 140 <= halfway <= 160


def test_those_that_end_by_themselves_are_left_alone() -> None:
    out = _handed_over(300, 120, 0.05, ending_per_step=1)
    assert out == [], "all have ended before their turn"


@examples(4)
@given(st.integers(0, 2000), st.floats(0, 600), st.floats(0.05, 5))
def test_whatever_the_notice_none_is_left_at_the_end(left: int, whole_s: float, step_s: float) -> None:
    out = _handed_over(left, whole_s, step_s)
    assert sum(count for _, count in out) == left


def backend() -> Configured:
    return Configured(BackendSpec("us-east/a", RegionSpec("us-east"), "http://h:1"))


def test_of_a_backends_and_its_regions_notice_the_first_holds() -> None:
    all_, b = Withdrawals(), backend()
    assert not all_.tell(b)
    assert not b.withdrawn
    all_.give_notice("us-east", Notice(0, 60))
    assert all_.tell(b)
    assert not all_.tell(b), "nothing new"
    all_.give_notice("us-east/a", Notice(0, 30))
    assert all_.tell(b)
    assert (b.leaving, b.withdrawn) == (Notice(0, 30), True)
    all_.give_notice("us-east/a", None)
    all_.tell(b)
    assert b.leaving == Notice(0, 60)
    all_.drain("us-east/a", True)
    all_.give_notice("us-east", None)
    assert all_.tell(b)
    assert (b.leaving, b.draining, b.withdrawn) == (None, True, True)
