"""Calendar periods agree with the calendar of the standard library."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from router.core.periods import DAY_US, day_end_us, day_of, month_end_us, month_of


@given(st.integers(0, 4_102_444_800))
def test_months_are_those_of_the_calendar(second: int) -> None:
    then = dt.datetime.fromtimestamp(second, dt.UTC)
    month = month_of(second * 1_000_000)
    assert divmod(month, 12) == (then.year, then.month - 1)
    following = (then.replace(day=1) + dt.timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert month_end_us(month) == int(following.timestamp()) * 1_000_000


@given(st.integers(0, 4_102_444_800))
def test_days_are_those_of_the_calendar(second: int) -> None:
    then = dt.datetime.fromtimestamp(second, dt.UTC)
    day = day_of(second * 1_000_000)
    assert day == then.toordinal() - dt.date(1970, 1, 1).toordinal()
    assert 0 < day_end_us(day) - second * 1_000_000 <= DAY_US
    assert day_of(day_end_us(day)) == day + 1
