"""Bytes become tokens by what text has taught, and nothing that is no text teaches."""

from __future__ import annotations

import random

import pytest

from router.core.params import Params
from router.core.prices import Price
from router.core.tokens import TokenEstimator, charged, guessed_microusd
from router.core.types import Usage

PARAMS = Params()


def taught(*lessons: tuple[str, int | None, int], estimator: TokenEstimator | None = None) -> TokenEstimator:
    """(key, bytes of text, tokens)"""
    estimator = estimator or TokenEstimator(PARAMS)
    for key, text_bytes, tokens in lessons:
        estimator.learn(key, "m", text_bytes, Usage(tokens, 10, None, True))
    return estimator


def prompt_tokens(estimator: TokenEstimator, key: str, text_bytes: int = 12_000) -> int:
    return estimator.estimate(key, "m", text_bytes, 10)[0]


def test_text_teaches() -> None:
    estimator = taught(*[("a", 3000, 1000)] * 100)
    assert prompt_tokens(estimator, "a") == pytest.approx(4000, rel=0.03)
    assert prompt_tokens(estimator, "new") == pytest.approx(4000, rel=0.1), "a new key begins with what is usual"


@pytest.mark.parametrize(
    "odd",
    [
        ("a", None, 1100),  # it had a picture
        ("a", 1_000_000, 1000),  # Base64 taken for text
        ("a", 12_000, 50),  # an engine that leaves out what was cached
        ("a", 12_000, 0),
    ],
)
def test_what_is_no_text_teaches_nothing(odd: tuple[str, int | None, int]) -> None:
    assert prompt_tokens(taught(*[odd] * 1000), "a") == 12_000 / PARAMS.bytes_per_token_prior + 1


@pytest.mark.parametrize("template", [12, 36, 200])
def test_short_prompts_teach_what_a_template_adds(template: int) -> None:
    """A chat of one word has 20 to 40 tokens that its client has not written, or those of a long system prompt."""
    estimator = taught(*[("a", 48, 12 + template)] * 20)
    assert prompt_tokens(estimator, "a", 48) == pytest.approx(12 + template, rel=0.1)
    assert prompt_tokens(estimator, "a") == pytest.approx(3000 + template, rel=0.01)
    assert prompt_tokens(estimator, "new", 48) == pytest.approx(12 + template, rel=0.1)


def test_the_first_short_prompt_teaches_already() -> None:
    assert prompt_tokens(taught(("a", 48, 48)), "a", 48) == pytest.approx(48, abs=2)


def test_what_a_template_adds_is_counted_once() -> None:
    lessons = [("a", 48, 12 + 36), ("a", 400, 100 + 36), ("a", 8000, 2000 + 36)] * 200
    for text_bytes in (48, 400, 8000):
        assert prompt_tokens(taught(*lessons), "a", text_bytes) == pytest.approx(text_bytes / 4 + 36, rel=0.05)


@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_an_engine_that_leaves_out_what_was_cached_takes_nothing_off(tokens: int) -> None:
    assert prompt_tokens(taught(*[("a", 100, tokens)] * 100), "a") == 12_000 / PARAMS.bytes_per_token_prior + 1


def test_a_picture_that_was_not_seen_adds_no_more_than_a_template_may() -> None:
    estimator = taught(*[("a", 100, 90_000)] * 1000)
    assert prompt_tokens(estimator, "a") <= 12_000 / PARAMS.bytes_per_token_prior + PARAMS.template_tokens_max


def test_what_one_key_writes_does_not_change_the_estimates_of_another() -> None:
    estimator = taught(*[("english", 4000, 1000)] * 100)
    taught(*[("chinese", 1800, 1000)] * 10_000, estimator=estimator)
    assert prompt_tokens(estimator, "english") == pytest.approx(3000, rel=0.02)
    assert prompt_tokens(estimator, "chinese") == pytest.approx(12_000 / 1.8, rel=0.02)


def test_a_few_odd_prompts_hardly_matter() -> None:
    rng = random.Random(1)
    lessons = [("a", 4000, 1000) if rng.random() < 0.9 else ("a", 16_000, 1000) for _ in range(2000)]
    assert prompt_tokens(taught(*lessons), "a") == pytest.approx(3000, rel=0.2)


def test_answers_are_learned_from_also_where_the_prompt_teaches_nothing() -> None:
    estimator = TokenEstimator(PARAMS)
    for _ in range(50):
        estimator.learn("a", "m", None, Usage(1000, 100, None, True))
    assert estimator.estimate("a", "m", 100, None)[1] == 151


def test_requests_that_write_nothing_teach_no_length() -> None:
    estimator = TokenEstimator(PARAMS)
    for _ in range(50):
        estimator.learn("a", "m", 4000, Usage(2000, 0, None, True), writes=False)
    assert estimator.estimate("a", "m", 4000, None) == (pytest.approx(2000, rel=0.1), PARAMS.output_tokens_prior)
    assert estimator.estimate("a", "m", 4000, 70)[1] == 70
    estimator.learn("a", "m", None, Usage(1000, 100, None, True))
    assert estimator.estimate("a", "m", 100, None)[1] == 151


def test_a_guess_costs_no_more_than_a_quarter_of_a_budget() -> None:
    price = Price(1, 10)
    assert guessed_microusd(price, 100, 4096, ()) == 100 + 40_960
    assert guessed_microusd(price, 100, 4096, (1_000_000,)) == 100 + 40_960
    assert guessed_microusd(price, 100, 4096, (20_000, 1_000_000)) == 100 + 5000
    assert guessed_microusd(price, 19_000, 4096, (20_000,)) == 20_000
    assert guessed_microusd(price, 30_000, 4096, (20_000,)) == 30_000, "the prompt alone costs more"
    assert guessed_microusd(None, 100, 4096, (20_000,)) == 0


@pytest.mark.parametrize(
    ("usage", "text_bytes", "expected"),
    [
        (Usage(7, 5, None, True), 4000, (7, 5)),
        (Usage(7, 0, None, True), 0, (7, 0)),  # embeddings
        (None, 4256, (100, 1000)),
        (None, 0, (100, 0)),
        (None, 100, (100, 0)),
        (Usage(0, 0, None, True), 4256, (100, 1000)),  # an engine that reports nothing but zeros
        (Usage(0, 26), 4256, (100, 26)),  # counted by the events of a stream
        (Usage(0, 26, None, True), 0, (100, 26)),
    ],
)
def test_nothing_that_was_answered_costs_nothing(
    usage: Usage | None, text_bytes: int, expected: tuple[int, int]
) -> None:
    found = charged(usage, 100, text_bytes, 4.0)
    assert (found.prompt_tokens, found.output_tokens) == expected
