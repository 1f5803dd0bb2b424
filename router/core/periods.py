"""Calendar periods in UTC, for limits on what is spent in one: integer arithmetic only, as Lua does it too.

Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

DAY_US = 86_400_000_000


class Period(NamedTuple):
    """Whole days. ``number`` counts the periods, ``end_us`` says when a counted one is over. ``store/lua/common.lua``
    has the same functions under the same name."""

    name: str
    field: str  # of an account in the store: the number of the period that its sums belong to
    number: Callable[[int], int]
    end_us: Callable[[int], int]


def month_of(now_us: int) -> int:
    """Months since year 0 of the calendar month that contains ``now_us`` (microseconds since 1970)."""
    year, month = _civil(now_us // DAY_US)
    return year * 12 + month - 1


def month_end_us(month: int) -> int:
    """When a month counted by ``month_of`` is over."""
    year, index = divmod(month + 1, 12)
    return _days(year, index + 1) * DAY_US


def _civil(days: int) -> tuple[int, int]:
    """Year and month of a day, counted from 1970-01-01."""
    shifted = days + 719_468
    era, day = divmod(shifted, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    march_based = (5 * day_of_year + 2) // 153
    month = march_based + 3 if march_based < 10 else march_based - 9
    return era * 400 + year + (month <= 2), month


def _days(year: int, month: int) -> int:
    """Days from 1970-01-01 to the first of a month."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + day_of_year - 719_468


def day_of(now_us: int) -> int:
    """Days since 1970-01-01, UTC."""
    return now_us // DAY_US


def day_end_us(day: int) -> int:
    """When a day counted by ``day_of`` is over."""
    return (day + 1) * DAY_US


MONTH = Period("month", "m", month_of, month_end_us)
DAY = Period("day", "e", day_of, day_end_us)
