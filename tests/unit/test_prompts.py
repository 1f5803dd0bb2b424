"""Prompts that are not computed yet: nothing is lost, nothing counts twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.cost import Ahead, Rates, prompt_pairs
from router.core.prompts import Prompts
from router.core.types import Lease, Request


def lease(tokens: int, started_s: float = 0.0, *, stream: bool = True, predicted_s: float = 1.0) -> Lease:
    ahead = Ahead(0.0, 0.0, 0.0, 0.0, Rates(token_s=0.001))
    pairs = prompt_pairs(tokens, tokens)
    return Lease(Request("r", "m", stream=stream), "b", started_s, tokens, tokens, pairs, predicted_s, ahead=ahead)


@given(st.lists(st.tuples(st.integers(1, 10_000), st.booleans(), st.booleans()), max_size=20))
def test_what_is_in_flight_is_what_was_sent_and_not_removed(sent: list[tuple[int, bool, bool]]) -> None:
    prompts, left = Prompts(), []
    for tokens, stream, goes in sent:
        one = lease(tokens, stream=stream)
        prompts.add(one)
        if goes:
            assert prompts.remove(one) is stream
            assert not prompts.remove(one), "a second time"
        else:
            left.append(one)
    assert len(prompts) == len(left)
    assert (prompts.tokens, prompts.pairs) == (sum(x.uncached_tokens for x in left), sum(x.pairs for x in left))


def progress(prompts: Prompts, now_s: float, *, queued: bool = False) -> None:
    prompts.see_progress(now_s, rtt_s=0.0, last_token_s=float("-inf"), speed=1.0, queued=queued)


def test_the_oldest_prompt_is_estimated_to_advance_and_never_to_be_done() -> None:
    prompts = Prompts()
    one = lease(1000)  # takes a second
    prompts.add(one)
    progress(prompts, 0.5)
    assert prompts.done_tokens == 500
    progress(prompts, 50.0)
    assert prompts.done_tokens == 900
    progress(prompts, 50.0, queued=True)
    assert prompts.done_tokens == 0, "it has no place yet"
    prompts.remove(one)
    assert (prompts.done_tokens, prompts.tokens) == (1000, 0)


def test_a_whole_answer_shows_no_first_token_so_the_prediction_counts() -> None:
    prompts = Prompts()
    prompts.add(lease(1000, stream=False))
    prompts.assume_computed(0.9)
    assert prompts.tokens == 1000
    prompts.assume_computed(1.0)
    assert prompts.tokens == 0


def test_a_first_token_is_late_from_when_it_was_due_or_from_the_last_that_came() -> None:
    prompts = Prompts()
    prompts.add(lease(1000))
    assert prompts.late_s(0.5, float("-inf")) == 0.0
    assert prompts.late_s(3.0, float("-inf")) == 2.0
    assert prompts.late_s(3.0, 2.5) == 0.5
    assert (prompts.overdue(0.9, 0.0), prompts.overdue(1.1, 0.0)) == (0, 1)
    assert (prompts.sent_after(-0.1), prompts.sent_after(0.0)) == (1, 0)
