"""Numbers and pictures for people."""

from __future__ import annotations

import time

import pytest

from cli import charts, units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.0840, "84 ms"),
        (0.99949, "999 ms"),
        (0.9996, "1.00 s"),
        (1.243, "1.24 s"),
        (9.996, "10.0 s"),
        (59.4, "59.4 s"),
        (59.6, "1m 00s"),
        (192, "3m 12s"),
        (3599.6, "1h 00m"),
        (7500, "2h 05m"),
        (356_400, "4d 3h"),
        (-0.02, "-20 ms"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.3, "now"), (4.2, "4 s"), (59.6, "1m 00s"), (192, "3m 12s")],
)
def test_age(value: float | None, text: str) -> None:
    assert units.age(value) == text


def test_ago() -> None:
    assert [units.ago(v) for v in (None, 0.1, 4.2)] == ["", "just now", "4 s ago"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.033, "0.03"),
        (0.42, "0.4"),
        (12.3, "12"),
        (994, "994"),
        (1234, "1.2k"),
        (123_456, "123k"),
    ],
)
def test_rate(value: float | None, text: str) -> None:
    assert units.rate(value) == text


def test_count_ratio_usd() -> None:
    assert [units.count(v) for v in (None, 7, 4096, 1.3e6, 2e9)] == ["–", "7", "4,096", "1.3M", "2.0G"]
    assert [units.ratio(v) for v in (None, 0, 0.003, 0.42, 1)] == ["–", "0 %", "0.3 %", "42 %", "100 %"]
    assert [units.usd(v) for v in (None, 1234.5)] == ["–", "$1,234.50"]
    assert [units.plural(n, "region") for n in (0, 1, 2)] == ["0 regions", "1 region", "2 regions"]


def test_clock_names_the_date_of_another_day() -> None:
    noon = time.mktime((2026, 11, 21, 12, 34, 56, 0, 0, -1))
    assert units.clock(noon, now_s=noon + 60) == "12:34:56"
    assert units.clock(noon, now_s=noon + 86_400) == "2026-11-21 12:34"
    assert units.clock(None) == "–"


def test_bar() -> None:
    assert charts.bar(0.5, 8) == "████    "
    assert charts.bar(1.5, 4) == "████"
    assert charts.bar(0.0001, 4) == "▏   ", "what is not zero can be seen"
    assert charts.bar(0, 4) == charts.bar(None, 4) == "    "


def test_sparkline() -> None:
    assert charts.sparkline([0, 1, 2, 4], 10) == "▁▂▄█"
    assert charts.sparkline([1, None, 1], 10) == "█ █"
    assert charts.sparkline([9, 0, 0], 2) == "▁▁", "only the last columns"
    assert charts.sparkline([1, 2], 4, top=4) == "▂▄"


def test_columns_are_as_high_as_asked() -> None:
    assert charts.columns([0, 1, 2, 4, None], 9, 2) == ["   █ ", "▁▄██ "]
    assert charts.columns([3, 3], 1, 3) == ["█", "█", "█"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0.00"),
        (0.04, "$0.04"),
        (0.00012, "$0.00012"),
        (1e-6, "$0.000001"),
        (0.0999, "$0.10"),
        (1234.5, "$1,234.50"),
    ],
)
def test_small_sums_have_the_digits_that_tell_them_apart(value: float, text: str) -> None:
    assert units.usd(value) == text
