"""Why a request was slow: the sentence names the part that nobody expected."""

from __future__ import annotations

from typing import Any

import pytest

from cli.why import sentence
from tests.cli.conftest import Json


def attempt(backend: str = "us-east/a", **changes: Any) -> Json:
    return {
        "backend": backend,
        "started_s": 0.01,
        "outcome": "ok",
        "ttft_s": 0.1,
        "predicted_ttft_s": 0.1,
        "kind": "first",
        "duration_s": 1.0,
        "detail": None,
        "connect_s": None,
        "first_byte_s": 0.1,
    } | changes


def request(*attempts: Json, **changes: Any) -> Json:
    ttft_s = next((a["started_s"] + a["ttft_s"] for a in attempts if a["ttft_s"] is not None), None)
    return {
        "cause": "ok",
        "attempts": list(attempts),
        "ttft_s": ttft_s,
        "duration_s": 1.01,
        "wait_s": 0.0,
        "admitted_s": 0.001,
        "output_tokens": 51,
        "decision": {"policy": "ttft", "candidates": []},
    } | changes


def candidate(backend: str, cost_s: float, *, chosen: bool = False) -> Json:
    return {"backend": backend, "cost_s": cost_s, "terms": {"queue": cost_s}, "struck": None, "chosen": chosen}


def test_nothing_was_slow() -> None:
    assert sentence(request(attempt())) == (
        "Nothing was slow before the answer: first token after 110 ms (predicted 100 ms), "
        "then 51 tokens at 56 a second."
    )


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (request(attempt(ttft_s=2.0)), "1.90 s longer than predicted, inside us-east/a"),
        (request(attempt(started_s=2.0), wait_s=1.99, ttft_s=2.1), "1.99 s of that it waited in the router"),
        (
            request(attempt(started_s=22.0), wait_s=21.9, held_s=21.9, ttft_s=22.1),
            "21.9 s of that it was held, as nothing",
        ),
        (request(attempt(connect_s=0.9, ttft_s=1.0)), "900 ms of that went into opening a connection to us-east/a"),
        (request(attempt(started_s=3.0), admitted_s=3.0), "3.00 s of that passed before its key and limits"),
        (
            request(
                attempt("us-east/b", outcome="first_token_timeout", ttft_s=None, duration_s=2.0),
                attempt(started_s=2.1, kind="retry"),
            ),
            "2.00 s went to an attempt at us-east/b that failed (first_token_timeout)",
        ),
    ],
    ids=["engine", "wait", "held", "connect", "admitted", "failed attempt"],
)
def test_the_part_that_took_the_time_is_named(record: Json, words: str) -> None:
    said = sentence(record)
    assert words in said
    assert said.startswith("First token after ")
    assert said.endswith(".")
    assert "\n" not in said


def test_the_choice_is_judged_by_what_was_known() -> None:
    others = [candidate("us-east/a", 0.1, chosen=True), candidate("eu/a", 0.4)]
    slow = request(attempt(ttft_s=2.0), decision={"policy": "ttft", "candidates": others})
    assert "in hindsight eu/a was the better choice, predicted 300 ms slower" in sentence(slow)
    others[1]["cost_s"] = 0.06
    assert "in hindsight eu/a was the better choice, predicted 40 ms faster" in sentence(slow)
    others[1]["cost_s"] = 9.0
    assert "nothing was wrong with the choice: eu/a was predicted 8.90 s slower" in sentence(slow)
    others.pop()
    assert "no other backend could have taken it" in sentence(slow)


def test_two_reasons_are_both_told() -> None:
    said = sentence(request(attempt(started_s=1.0, ttft_s=2.0), wait_s=0.9, ttft_s=3.0))
    assert "1.90 s longer than predicted" in said
    assert "(and 900 ms waiting for a place)" in said


def test_a_whole_answer_has_no_first_token_to_explain() -> None:
    whole = request(attempt(ttft_s=None, duration_s=5.8), ttft_s=None, duration_s=5.86, output_tokens=300)
    assert sentence(whole) == "Not streamed: 5.86 s in all, 5.80 s of that at us-east/a for 300 tokens."


def test_a_failure_says_where_it_ended() -> None:
    lost = attempt(outcome="unreachable", ttft_s=None, detail="could not be reached")
    failed = request(lost, cause="unreachable", ttft_s=None, output_tokens=0)
    assert sentence(failed) == "It failed after 1.01 s and 1 attempt: unreachable at us-east/a: could not be reached."
    assert "in the middle of the answer" in sentence(request(attempt(outcome="truncated"), cause="truncated"))


def test_what_no_backend_was_asked() -> None:
    assert sentence(request(cause="refused", ttft_s=None)) == "Refused after 1.01 s: no backend was asked."
    assert "before a backend was asked" in sentence(request(cause="client_gone", ttft_s=None))


def test_records_of_older_routers_have_no_such_parts() -> None:
    old = attempt(ttft_s=2.0)
    del old["connect_s"], old["first_byte_s"]
    record = request(old)
    del record["admitted_s"]
    assert "1.90 s longer than predicted" in sentence(record)


def test_one_that_was_held_in_vain_is_told_so() -> None:
    said = sentence(request(cause="refused", held_s=60.0, wait_s=60.0, duration_s=60.1))
    assert "held for 1m 00s while nothing of its model ran" in said
    held = sentence(request(attempt(started_s=21.0), wait_s=20.0, held_s=19.0, ttft_s=21.1))
    assert "19.0 s of that it was held" in held
    assert "1.00 s waiting for a place" in held
    assert "every backend it may use was full" not in held


def broken(**changes: Any) -> Json:
    cut = attempt(outcome="truncated", detail="broke the connection", duration_s=0.5, said_tokens=7)
    more = attempt("eu/a", kind="continue", started_s=0.6, ttft_s=0.2, predicted_ttft_s=0.2)
    return request(cut, more, **changes)


def test_a_stream_that_was_continued_says_where_it_was_cut_and_who_went_on() -> None:
    assert sentence(broken()).startswith(
        "The stream was cut at us-east/a after 7 tokens (broke the connection) and went on at eu/a 290 ms later. "
        "Nothing was slow before the answer: first token after 110 ms (predicted 100 ms)"
    )


def test_a_stream_that_was_handed_over_was_not_cut() -> None:
    record = broken()
    record["attempts"][0].update(outcome="moved", detail=None, said_tokens=None)
    assert sentence(record).startswith("The stream was handed over by us-east/a and went on at eu/a 290 ms later.")


def test_a_break_that_nobody_continued_says_why() -> None:
    cut = attempt(outcome="truncated", detail="broke the connection", duration_s=0.5, said_tokens=7)
    record = request(cut, cause="truncated", not_continued="no_backend")
    assert sentence(record).endswith("No other backend continued it: no other backend is left that can.")


def test_a_failed_attempt_before_the_first_token_does_not_break_it() -> None:
    dead = attempt(outcome="unreachable", ttft_s=None, duration_s=0.01)
    assert "The stream" not in sentence(request(dead, attempt("eu/a", kind="retry")))
