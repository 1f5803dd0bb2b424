"""The rows of `python -m bench.reliability` that matter most, in their short form: real processes and real signals.

How long a pause was depends on the machine, and is not judged here.
"""

from __future__ import annotations

import asyncio

import pytest

from bench.reliability import deaths, silence
from bench.reliability.__main__ import measure
from bench.reliability.row import ROWS, SHORT, Outcome, Row, Size

__all__ = ["deaths", "silence"]  # they add their rows

NO_TOKEN_IS_LOST_WITH_A_REGION = 1
NO_CUT_STREAM_PASSES_FOR_WHOLE = 2
WHAT_FALLS_SILENT_GOES_ON = 6


@pytest.mark.parametrize(
    "number", [NO_TOKEN_IS_LOST_WITH_A_REGION, NO_CUT_STREAM_PASSES_FOR_WHOLE, WHAT_FALLS_SILENT_GOES_ON]
)
async def test_row(number: int) -> None:
    outcome = await ROWS[number].run(SHORT)
    assert outcome.failures == [], outcome.figures


async def test_a_row_that_cannot_be_measured_has_failed() -> None:
    async def broken(size: Size) -> Outcome:
        await asyncio.sleep(0)
        raise OSError("no such thing")

    result = await measure(Row(0, "nothing", "nothing", broken), SHORT)
    assert not result.passed
    assert "no such thing" in result.failures[0]


async def test_a_claim_about_time_fails_a_row_and_no_test() -> None:
    async def late(size: Size) -> Outcome:
        out = Outcome()
        out.in_time(False, "it took longer")
        return out

    assert (await measure(Row(0, "late", "in time", late), SHORT)).failures == ("it took longer",)
    assert (await late(SHORT)).failures == []
