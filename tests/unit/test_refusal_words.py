"""store/answers.py: the figures of a refusal are as exact as its sentence needs."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from router.core.limits import INDEX, KINDS
from router.core.quota import Shortfall, Standing
from router.store.answers import refusal
from router.store.base import Plan

_FIGURE = re.compile(r"\d+\.\d+(?= of| USD)")


def words(used: int, cost: int, limit: int, *, never: bool = False) -> str:
    index = INDEX["budget_day"]
    limits = Plan("p", budget_usd_day=limit / 1e6).limits
    assert limits.limits[index] == limit
    amounts = [tuple(amount if i == index else 0 for i in range(len(KINDS))) for amount in (used, cost)]
    shortfall = Shortfall("budget_day", never=True) if never else Shortfall("budget_day", wait_us=60_000_000)
    return refusal(limits, shortfall, Standing(0, amounts[0]), amounts[1]).detail


def test_small_dollars_are_not_rounded_until_they_are_alike() -> None:
    assert words(11_000, 1_010, 12_000).startswith(
        "Budget reached: 0.01100 of 0.01200 USD of this day are used and this request may cost 0.00101 USD. "
    )
    assert "0.000499 of 0.000500 USD" in words(499, 2, 500)
    assert "may cost 0.012001 USD, above the whole limit of 0.012000 " in words(0, 12_001, 12_000, never=True)


def test_large_dollars_have_cents() -> None:
    assert "499.99 of 500.00 USD of this day are used and this request may cost 0.02 USD" in words(
        499_990_000, 20_000, 500_000_000
    )
    assert "12.35 of 12.00 USD of this day are used and this request may cost 1.23 USD" in words(
        12_345_678, 1_234_567, 12_000_000
    )


@given(*[st.integers(1, 10**7) | st.integers(1, 10**4)] * 3)
def test_the_sentence_is_true_of_the_figures_in_it(used: int, cost: int, limit: int) -> None:
    told = _FIGURE.findall(words(used, cost, limit))
    assert len({len(text.partition(".")[2]) for text in told}) == 1
    used_told, limit_told, cost_told = (round(float(text) * 1e6) for text in told)
    assert (used_told == limit_told, cost_told == limit_told) == (used == limit, cost == limit)
    assert (used_told + cost_told > limit_told) == (used + cost > limit)
    assert all(abs(a - b) <= 5_000 for a, b in ((used_told, used), (limit_told, limit), (cost_told, cost)))
