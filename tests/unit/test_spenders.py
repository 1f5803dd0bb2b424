"""Days and months as people write them, and sums by what one likes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import parse
from router.control.spenders import jwt_holders, name_of, number_of, summed
from router.core.periods import DAY, DAY_US, MONTH
from router.core.spending import Spender, Sums


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_names_and_numbers_are_the_same_day_and_month(at: datetime) -> None:
    day = (at.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(days=1)
    assert name_of(DAY, day) == f"{at:%Y-%m-%d}".zfill(10)
    assert number_of(DAY, f"{at.year:04d}-{at.month:02d}-{at.day:02d}") == day
    assert number_of(MONTH, f"{at.year:04d}-{at.month:02d}") == MONTH.number(day * DAY_US)
    assert name_of(MONTH, MONTH.number(day * DAY_US)) == f"{at.year:04d}-{at.month:02d}"


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-00", "26-11", "2026-1", "2026-11-30", "x", "", "２０２６-11", "1969-12"]
)
def test_what_is_no_month(text: str) -> None:
    assert number_of(MONTH, text) is None


@pytest.mark.parametrize("text", ["2026-02-29", "2026-11-31", "2026-11-00", "2026-11", "2026-11-3"])
def test_what_is_no_day(text: str) -> None:
    assert number_of(DAY, text) is None


def test_rows_are_summed_by_what_one_likes() -> None:
    rows = {
        Spender("acme", "k1", "p", "m"): Sums(1, 10, 1, 5),
        Spender("acme", "k2", "p", "m"): Sums(2, 20, 2, 6),
        Spender("bob", "k3", "p", "n"): Sums(4, 40, 4, 7),
    }
    assert summed(rows, ("tenant", "model")) == {("acme", "m"): Sums(3, 30, 3, 11), ("bob", "n"): Sums(4, 40, 4, 7)}
    assert summed(rows, ("model", "key"))["m", "k1"] == Sums(1, 10, 1, 5)


def test_holders_of_jwts_have_the_plan_of_their_rows() -> None:
    config = parse("[plans.default]\n[plans.trial]\nrequests_per_minute = 5\n", "test")
    rows = [
        Spender("org", "jwt:org", "trial", "m"),
        Spender("a", "key_1", "trial", "m"),
        Spender("x", "jwt:x", "no", "m"),
    ]
    org, x = jwt_holders(rows, config)
    assert (org.id, org.tenant, org.plan.requests_per_minute, org.plan_missing) == ("jwt:org", "org", 5, False)
    assert (x.id, x.plan_missing) == ("jwt:x", True)
