"""The gift of an answer that was lost is found by comparing two counts."""

from __future__ import annotations

from router.core.limits import NOTHING, Amounts, Units, cost
from router.store.taken import AGAIN_S, Taken


def units(requests: int, tokens: int = 0) -> Units:
    return cost(Amounts(requests, tokens))


def test_what_was_lost_is_found_when_nothing_is_under_way() -> None:
    mine = Taken()
    mine.asked()
    mine.answered(units(2, 100))
    assert mine.due(0.0) is None
    mine.asked()
    mine.asked()
    mine.unanswered(1.0)
    assert mine.due(1.0) is None, "another question is under way"
    mine.answered(units(1, 10))
    number = mine.due(1.0)
    assert number is not None
    theirs = tuple(n if i != 2 else 0 for i, n in enumerate(units(8, 310)))
    missing = mine.found(number, theirs, 1.0)
    assert missing is not None
    assert missing[:2] == (5, 200)
    assert mine.due(1.5) is None
    assert not mine.quiet, "a question may still be on its way"
    number = mine.due(1.0 + AGAIN_S)
    assert number is not None
    assert mine.found(number, theirs, 1.0 + AGAIN_S) == NOTHING
    assert mine.quiet


def test_a_comparison_during_which_something_was_asked_says_nothing() -> None:
    mine = Taken()
    mine.asked()
    mine.unanswered(0.0)
    number = mine.due(0.0)
    assert number is not None
    mine.asked()
    mine.answered(units(1))
    assert mine.found(number, units(5), 0.0) is None
    assert mine.due(0.0) is not None


def test_a_store_that_has_forgotten_its_count_gives_nothing_away() -> None:
    mine = Taken()
    mine.asked()
    mine.answered(units(9, 900))
    mine.asked()
    mine.unanswered(0.0)
    number = mine.due(0.0)
    assert number is not None
    assert mine.found(number, NOTHING, 0.0) == NOTHING
