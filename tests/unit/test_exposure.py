"""A habit of short answers buys nobody more than the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import Plan
from router.core.exposure import beyond, cut, may_break, needed
from router.core.limits import MICRO, Amounts, Limits, cost
from router.core.params import Params
from router.core.prices import Price
from router.core.tokens import (
    GUESS_DIVISOR,
    OUTPUT_TOKENS_LONGEST,
    TokenEstimator,
    guessed,
    guessed_microusd,
    longest,
    worst_microusd,
)
from router.core.types import Usage
from router.store.base import Key, Refusal, Reservation
from router.store.memory import MemoryStore

WALL_S = 1_800_000_000.0
#: of a limit of 2000 tokens a minute, prompts included
RATES = ((2000, True),)


class Clock:
    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return WALL_S + self.now_s


def store_of(plan: Plan) -> tuple[MemoryStore, Key, Clock]:
    clock = Clock()
    store = MemoryStore({"default": plan}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)
    return store, Key("k", "k", "t", plan, 0.0, False), clock


def tokens(n: int) -> Amounts:
    return Amounts(1, 0, n, 10 * n)  # at ten dollars a million


@pytest.mark.parametrize("plan", [Plan("default", tokens_per_minute=2000), Plan("default", budget_usd_month=0.02)])
def test_sixty_long_answers_after_many_short_ones(plan: Plan) -> None:
    """The attack: a key whose answers had 5 tokens asks for 60 of 200 at once."""
    store, key, _ = store_of(plan)
    estimator = TokenEstimator(Params())
    for _ in range(50):
        estimator.learn("k", "m", 400, Usage(0, 5))
    _, usual = estimator.estimate("k", "m", 40, 200)
    assert usual < 50
    taken = [
        store.reserve_now(key, tokens(usual), "r", 0.0, tokens(longest(200, 1, usual, 0, RATES))) for _ in range(60)
    ]
    let_in = [each for each in taken if isinstance(each, Reservation)]
    for each in let_in:
        store.settle(each, tokens(200))
    assert 8 <= len(let_in) <= 10, "nearly all of it, and no more"
    assert isinstance(store.reserve_now(key, tokens(usual), "r", 0.0, tokens(200)), Reservation) is False


def test_habit_serves_far_from_the_limit() -> None:
    store, key, _ = store_of(Plan("default", tokens_per_minute=1_000_000))
    taken = [store.reserve_now(key, tokens(20), "r", 0.0, tokens(4096)) for _ in range(200)]
    assert all(isinstance(each, Reservation) and each.cost[1] == 20 for each in taken)


@pytest.mark.parametrize("usual", [20, 1500, 4096])
@pytest.mark.parametrize("plan", [Plan("default", tokens_per_minute=2000), Plan("default", budget_usd_month=0.02)])
def test_whether_a_request_can_ever_be_served_does_not_depend_on_habit(plan: Plan, usual: int) -> None:
    store, key, _ = store_of(plan)
    for most, possible in ((2000, True), (2001, False), (4096, False)):
        expected = min(usual, most)
        asked = tokens(most) if most > expected else None
        taken = store.reserve_now(key, tokens(expected), "r", 0.0, asked)
        assert isinstance(taken, Reservation) is possible
        if isinstance(taken, Reservation):
            store.settle(taken, None)
        else:
            assert taken.retry_after_s is None
            assert "waiting does not help" in taken.detail


@given(
    st.sampled_from([400, 2000, 100_000]),
    st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 30_000), st.integers(0, 12), st.floats(0, 5.0))),
)
def test_answers_of_unknown_length_overrun_a_limit_by_no_more_than_themselves(
    limit: int, steps: list[tuple[int, int, int, float]]
) -> None:
    """Nobody has set a maximum, and answers run to whatever they like: beyond the limit goes no more than the answers in
    flight, of which there are few, and what they used beyond it is paid before anybody is let in again."""
    store, key, clock = store_of(Plan("default", output_tokens_per_minute=limit))
    rates, running, used, longest_seen = ((limit, False),), list[tuple[Reservation, int]](), 0, 0
    for habit, length, at_once, pause_s in steps:
        clock.now_s += pause_s
        usual = guessed(habit, 0, rates)
        most = longest(None, 1, usual, 0, rates)
        answer = store.reserve_now(key, tokens(usual), "r", clock.now_s, tokens(most) if most > usual else None)
        if isinstance(answer, Reservation):
            running.append((answer, length))
            longest_seen = max(longest_seen, length)
        else:
            assert answer.retry_after_s is not None, "a guess refuses nobody for good"
        assert len(running) <= max(GUESS_DIVISOR, limit // OUTPUT_TOKENS_LONGEST) + limit * clock.now_s / 60 / most + 1
        while len(running) > at_once:
            reservation, uses = running.pop(0)
            used += uses
            store.settle(reservation, tokens(uses))
        within = limit + limit * clock.now_s / 60 + 1
        over = used + sum(uses for _, uses in running) - within
        assert over <= max(GUESS_DIVISOR, limit // OUTPUT_TOKENS_LONGEST) * longest_seen


def test_a_guess_takes_what_is_left_of_a_budget_and_no_other_request_beside_it() -> None:
    store, key, _ = store_of(Plan("default", budget_usd_month=1.0))
    spent = store.reserve_now(key, Amounts(1, 0, 0, 900_000), "r", 0.0)
    assert isinstance(spent, Reservation)
    store.settle(spent, Amounts(1, 0, 0, 900_000))
    certain = Amounts(1, 10, 0, 60_000)
    guess = Amounts(1, 10, 4096, 250_000, certain)
    for usual, most in ((guess, None), (Amounts(1, 10, 9, 70_000, certain), guess)):
        taken = store.reserve_now(key, usual, "r", 0.0, most)
        assert isinstance(taken, Reservation), "a tenth is left"
        assert isinstance(store.reserve_now(key, usual, "r", 0.0, most), Refusal)
        store.settle(taken, None)
    too_much = Amounts(1, 10, 4096, 250_000, Amounts(1, 10, 0, 100_001))
    assert isinstance(store.reserve_now(key, too_much, "r", 0.0), Refusal), "the prompt alone costs more"


@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.integers(0, 3000), st.floats(0, 1), st.integers(0, 8), st.floats(0, 2.0)),
        min_size=1,
        max_size=60,
    )
)
def test_the_limit_holds_whatever_answers_run_to(steps: list[tuple[int, int, float, int, float]]) -> None:
    """Requests of some habit and some maximum, of which each uses any part, at any pace and in any number at once."""
    limit = 5000
    store, key, clock = store_of(Plan("default", tokens_per_minute=limit))
    running: list[tuple[Reservation, int]] = []
    used = 0
    for usual, extra, part, at_once, pause_s in steps:
        clock.now_s += pause_s
        most = usual + extra
        taken = store.reserve_now(key, tokens(usual), "r", clock.now_s, tokens(most) if extra else None)
        if isinstance(taken, Reservation):
            running.append((taken, round(part * most)))
        while len(running) > at_once:
            reservation, uses = running.pop(0)
            used += uses
            store.settle(reservation, tokens(uses))
        assert used + sum(uses for _, uses in running) <= limit + limit * clock.now_s / 60 + 1
        assert min(store._purses["k"].exposed) >= 0
    for reservation, uses in running:
        store.settle(reservation, tokens(uses))
    assert not any(store._purses["k"].exposed)


def test_the_words_of_exposure() -> None:
    limits = Limits(None, 1000)
    usual, most = cost(Amounts(1, 10)), cost(Amounts(1, 400))
    assert not may_break(usual, most, (0, 0, 0, 0), (0, 390, 0, 0), (1,))
    assert may_break(usual, most, (0, 1, 0, 0), (0, 390, 0, 0), (1,))
    assert not may_break(usual, usual, (0, 500, 0, 0), (0, 500, 0, 0), (1,))
    assert may_break(usual, usual, (0, 500, 0, 0), (0, 499, 0, 0), (1,)), "it takes the room of those that are exposed"
    nothing = cost(Amounts(1, 0))
    assert not may_break(nothing, nothing, (0, 500, 0, 0), (0, 499, 0, 0), (1,))
    assert not beyond(cost(Amounts(1, 1000)), limits)
    assert beyond(cost(Amounts(1, 1001)), limits)
    assert cut(most, usual, [(1, 100)])[1] == 100
    assert cut(most, usual, [(1, 5)])[1] == usual[1]
    assert cut(most, usual, [(1, 1000)])[1] == most[1]
    assert needed(most, (0, 100, 0, 0), limits)[1] == 500
    assert needed(most, (0, 900, 0, 0), limits)[1] == 1000


def test_how_long_an_answer_may_run() -> None:
    assert longest(200, 3, 20, 10, RATES) == 600
    assert longest(None, 1, 20, 10, RATES) == 500
    assert longest(None, 1, 20, 1900, RATES) == 100
    assert longest(None, 1, 20, 1900, ((2000, False),)) == 500, "the prompt is not counted"
    assert longest(None, 1, 20, 10, ((2000, True), (400, False))) == 100
    assert longest(None, 1, 20, 10, ()) == 4096
    assert longest(None, 1, 9000, 10, ()) == 9000


@given(
    st.integers(1, 20_000),
    st.sampled_from([0, 1, 7, 300]),
    st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 3), st.integers(1, 6)), max_size=20),
)
def test_no_more_guesses_than_four_run_at_once_into_a_budget(
    budget: int, prompt: int, steps: list[tuple[int, int, int, int]]
) -> None:
    """Also where prompts are free, and where a quarter is a broken number of millionths of a dollar. A budget that is
    used up lets nobody in, and the rest of one always lets in one."""
    store, key, _ = store_of(Plan("default", budget_usd_month=budget / MICRO))
    price, running, used = Price(float(prompt), 1.0), list[tuple[Reservation, int]](), 0
    least = Amounts(1, 1, 0, prompt)

    def priced(output: int) -> Amounts:
        return Amounts(1, 1, output, guessed_microusd(price, 1, output, [budget]), least)

    for habit, length, at_once, tries in steps:
        usual, most = priced(habit), priced(max(habit, OUTPUT_TOKENS_LONGEST))
        for _ in range(tries):
            answer = store.reserve_now(key, usual, "r", 0.0, most if most.output_tokens > habit else None)
            if isinstance(answer, Reservation):
                assert used < budget, "nothing is left"
                running.append((answer, prompt + length))
            else:
                assert running or used + prompt > budget - (not prompt), "a guess refuses nobody for good"
        assert len(running) <= max(GUESS_DIVISOR, budget // OUTPUT_TOKENS_LONGEST)
        while len(running) > at_once:
            reservation, uses = running.pop(0)
            used += uses
            store.settle(reservation, Amounts(1, 1, 0, uses))


@given(
    st.integers(200, 5000),
    st.lists(
        st.tuples(st.integers(1, 100), st.integers(1, 6), st.integers(0, 6), st.integers(1, 8), st.integers(0, 60)),
        max_size=20,
    ),
)
def test_prompts_that_were_guessed_too_short_pass_a_budget_by_one_of_them(
    budget: int, steps: list[tuple[int, int, int, int, int]]
) -> None:
    """A text has as many tokens as bytes at worst, and the first guess is a fourth of that. Only the request that took
    what was left may use more than is held for it, and while it runs nobody else takes the rest."""
    store, key, _ = store_of(Plan("default", budget_usd_month=budget / MICRO))
    price, running, used, longest_seen = Price(1.0, 1.0), list[tuple[Reservation, int]](), 0, 0
    for guess, factor, at_once, tries, output in steps:
        expected, text_bytes = guess + output, 4 * guess
        worst = worst_microusd(price, expected, guess, text_bytes, 0, [budget])
        usual, least = Amounts(1, guess, output, expected), Amounts(1, guess, output, expected)
        uses = min(guess * factor, text_bytes) + output
        for _ in range(tries):
            answer = store.reserve_now(key, usual, "r", 0.0, Amounts(1, guess, output, worst, least))
            if isinstance(answer, Reservation):
                running.append((answer, uses))
                longest_seen = max(longest_seen, uses)
            else:
                assert running or used + expected > budget, "a guess refuses nobody for good"
        while len(running) > at_once:
            reservation, its = running.pop(0)
            used += its
            store.settle(reservation, Amounts(1, guess, 0, its))
        assert used + sum(its for _, its in running) <= budget + longest_seen
    for reservation, its in running:
        used += its
        store.settle(reservation, Amounts(1, 1, 0, its))
    assert used <= budget + longest_seen
