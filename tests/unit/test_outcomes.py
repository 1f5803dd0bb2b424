"""The table of outcomes: what must hold in every row."""

from __future__ import annotations

import pytest

from router.core.outcomes import CONSEQUENCES, Charge, Lesson, OnHealth, Outcome, Retry


def test_every_outcome_has_its_row() -> None:
    assert CONSEQUENCES.keys() == set(Outcome)


@pytest.mark.parametrize("outcome", Outcome)
def test_what_is_not_the_backends_doing_is_not_held_against_it(outcome: Outcome) -> None:
    blamed = CONSEQUENCES[outcome].on_health in (OnHealth.HARD, OnHealth.SOFT)
    innocent = {
        Outcome.OK,
        Outcome.CLIENT_ERROR,
        Outcome.CLIENT_GONE,
        Outcome.MODEL_MISSING,
        Outcome.UNSUPPORTED,
        Outcome.OVERLOADED,
        Outcome.OWN_SHORTAGE,
        Outcome.MOVED,
        Outcome.SUPERSEDED,
    }
    assert blamed is (outcome not in innocent)


@pytest.mark.parametrize("outcome", Outcome)
def test_an_attempt_that_is_repeated_is_not_paid(outcome: Outcome) -> None:
    row = CONSEQUENCES[outcome]
    if row.retry in (Retry.YES, Retry.IN_BUDGET):
        assert row.charge is Charge.REFUND


@pytest.mark.parametrize("outcome", Outcome)
def test_first_tokens_are_learned_from_answers_alone(outcome: Outcome) -> None:
    assert (CONSEQUENCES[outcome].lesson is Lesson.TTFT) is (outcome is Outcome.OK)


def test_a_success_clears_failures_and_nothing_else_does() -> None:
    assert [o for o, row in CONSEQUENCES.items() if row.on_health is OnHealth.RESETS] == [Outcome.OK]
