"""Moments and spans of time as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.moments import SPAN_S_MAX, iso_of, moment_s, roughly, span_s, span_text

NOW_S = 1_796_000_000.0


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0", 0),
        ("90", 90),
        ("30s", 30),
        ("5m", 300),
        ("1.5h", 5400),
        (" 30d ", 2_592_000),
        ("1 d", 86_400),
        ("2w", 1_209_600),
        ("1y", 31_536_000),
    ],
)
def test_spans(text: str, span: float) -> None:
    assert span_s(text) == span


@given(st.integers(1, 10_000_000))
def test_a_span_is_written_so_that_it_can_be_read(seconds: int) -> None:
    assert span_s(span_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "1m"), (1800, "30m"), (86_400, "24h"), (604_800, "7d"), (90, "90s")]
)
def test_a_span_is_written_as_it_is_typed(seconds: int, text: str) -> None:
    assert span_text(seconds) == text


@pytest.mark.parametrize(
    "text", ["", "d", "-1d", "1 month", "1e3s", "30D", "inf", "nan", "1d2h", "999999999999y", "٣d"]
)
def test_what_is_no_span(text: str) -> None:
    assert span_s(text) is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30d", NOW_S + 2_592_000),
        ("2026-12-30T09:00:00Z", 1_798_621_200.0),
        ("2026-12-30T10:00:00+01:00", 1_798_621_200.0),
        ("2026-12-30T09:00:00", 1_798_621_200.0),
        ("2026-12-30", 1_798_588_800.0),
    ],
)
def test_moments(text: str, moment: float) -> None:
    assert moment_s(text, NOW_S) == moment


@pytest.mark.parametrize("text", ["", "30", "tomorrow", "2026-13-01", "2026-02-30", "1798621200", "never"])
def test_what_is_no_moment(text: str) -> None:
    """A bare number may be meant as seconds, days or a time since 1970: it is refused."""
    assert moment_s(text, NOW_S) is None


@given(st.integers(0, 253_402_300_799))
def test_a_moment_that_is_shown_can_be_written(wall_s: int) -> None:
    assert moment_s(iso_of(float(wall_s)), NOW_S) == wall_s


@given(st.text(max_size=30))
def test_nothing_that_people_write_is_a_fault(text: str) -> None:
    span = span_s(text)
    assert span is None or 0 <= span <= SPAN_S_MAX
    moment_s(text, NOW_S)


@given(st.floats())
def test_every_number_is_shown(wall_s: float) -> None:
    assert iso_of(wall_s)


def test_roughly() -> None:
    assert [roughly(seconds) for seconds in (0.4, 12, 119, 120, 3599)] == ["0 s", "12 s", "119 s", "2 min", "60 min"]
