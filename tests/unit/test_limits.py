"""The list of kinds, and what must agree with it elsewhere."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.config import Plan
from router.core.limits import COUNTED, INDEX, KINDS, NAMES, PER_MINUTE_MAX, Amounts, Limits, Shape, cost


def test_every_kind_of_limit_has_its_key_in_a_plan() -> None:
    """A new row in KINDS needs this elsewhere: an attribute of Plan, and a name and a field in the store of its own."""
    for kind in KINDS:
        written: dict[str, Any] = {kind.key: 7}
        assert Plan("p", **written).limits[INDEX[kind.name]] == (7_000_000 if kind.money else 7)
        assert (kind.period is not None) == (kind.shape is Shape.SUM)
        assert bool(kind.field) == (kind.shape is not Shape.SLOTS)
    stored = [kind.field for kind in KINDS if kind.field] + [*{kind.period.field for kind in KINDS if kind.period}]
    assert len({*stored, *("p" + field for field in stored), "at", "n"}) == 2 * len(stored) + 2


def test_a_cost_has_the_units_that_each_kind_counts() -> None:
    units = cost(Amounts(2, 30, 400, 5000))
    assert (
        dict(zip(NAMES, units, strict=True)).items()
        >= {
            "requests": 2,
            "tokens": 430,
            "prompt_tokens": 30,
            "output_tokens": 400,
            "budget": 5000,
            "budget_day": 5000,
        }.items()
    )
    assert {kind.counts for kind in KINDS} <= set(COUNTED)


def test_limits_are_given_by_position_or_by_name() -> None:
    assert (
        Limits(600, budget=7)
        == Limits(requests=600, budget=7)
        == Limits().replaced(0, 600).replaced(INDEX["budget"], 7)
    )
    assert Limits(600) != Limits(tokens=600)
    assert Limits().unlimited
    assert not Limits(concurrent=1).unlimited
    assert (Limits(budget=1).money, Limits(600).money) == (True, False)
    for wrong in ({"dollars": 1}, {"requests_per_minute": 1}):
        with pytest.raises(TypeError, match="requests, tokens"):
            Limits(**wrong)


def test_a_rate_beyond_the_exact_range_is_cut_to_it() -> None:
    assert Plan("p", tokens_per_minute=10**12).limits[INDEX["tokens"]] == PER_MINUTE_MAX


def test_a_plan_that_has_worked_out_its_limits_is_the_same_plan() -> None:
    """Plans are compared at a reload and sent to workers as JSON."""
    plan, fresh = Plan("p", requests_per_minute=60), Plan("p", requests_per_minute=60)
    assert plan.limits is plan.limits
    assert plan == fresh
    assert msgspec.json.encode(plan) == msgspec.json.encode(fresh)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_limits_know_what_counts_of_an_answer() -> None:
    limits = Limits(requests=6, tokens=100, output_tokens=40, prompt_tokens=70)
    assert limits.answers == ((100, True), (40, False))
    assert limits.counts_output
    assert not Limits(requests=6, prompt_tokens=70).counts_output, "nothing of the answer counts"
    assert Limits(budget_day=1).counts_output
    assert Limits(budget_day=1).money
