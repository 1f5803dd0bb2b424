"""The bars of a burn-in: which figures pass, and beside whom."""

from __future__ import annotations

from typing import Any

import pytest

from router.core.burn_in import LEVELS, Measured, Shot, Step, judge, report, requests_at


def measured(name: str = "r/new", *, ttft_s: float = 0.1, itl_s: float = 0.02, rtt_s: float = 0.0) -> Measured:
    def step(level: int) -> Step:
        shots = [Shot(text="a b c", ttft_s=ttft_s, itl_s=itl_s, output_tokens=32) for _ in range(requests_at(level))]
        return Step(level, shots, 1.0)

    greedy = [Shot(text="the same words", ttft_s=ttft_s, itl_s=itl_s, output_tokens=3) for _ in range(3)]
    greedy[0].text = "other words, from a prompt that was not cached"
    return Measured(name, rtt_s, greedy, [step(level) for level in LEVELS])


def failed(one: Measured, other: Measured | None = None) -> list[str]:
    document = report(one, other, "ids")
    names = [check["name"] for check in document["checks"] if not check["passed"]]
    assert document["passed"] is (not names)
    return names


def test_one_that_is_as_good_as_its_sibling_passes() -> None:
    assert failed(measured(), measured("r/old")) == []


def test_without_a_sibling_times_are_told_and_not_judged() -> None:
    slow = measured(ttft_s=30.0, itl_s=3.0)
    assert failed(slow) == []
    bars = {check.name: check.bar for check in judge(slow, None, "no")}
    assert bars["first token"] == bars["between tokens"] == "nothing to compare with"


@pytest.mark.parametrize(
    ("one", "names"),
    [
        (measured(ttft_s=0.31), ["first token"]),
        (measured(ttft_s=0.29), []),
        (measured(itl_s=0.045), ["between tokens"]),
        (measured(itl_s=0.039), []),
    ],
)
def test_times_are_held_against_those_of_the_sibling(one: Measured, names: list[str]) -> None:
    assert failed(one, measured("r/old")) == names


def test_distance_is_no_fault_of_the_engine() -> None:
    far = measured(ttft_s=0.1 + 2 * 0.15, rtt_s=0.15)
    assert failed(far, measured("r/old")) == []
    assert failed(measured(ttft_s=0.4), measured("r/old")) == ["first token"]


def test_the_step_at_which_it_does_worst_decides() -> None:
    one = measured()
    for shot in one.steps[2].shots:
        shot.ttft_s = 0.9
    assert failed(one, measured("r/old")) == ["first token"]
    check = next(check for check in judge(one, measured("r/old"), "no") if check.name == "first token")
    assert check.figure == "900 ms at 4"
    assert check.bar == "300 ms, by r/old"


def test_only_steps_that_both_took_are_compared() -> None:
    other = measured("r/old")
    del other.steps[1:]
    one = measured()
    for shot in one.steps[3].shots:
        shot.ttft_s = 5.0
    assert failed(one, other) == []


def test_one_failed_request_is_one_too_many() -> None:
    one = measured()
    one.steps[3].shots[5] = Shot("status 500")
    assert failed(one, measured("r/old")) == ["errors"]
    check = next(check for check in judge(one, None, "no") if check.name == "errors")
    assert check.figure == f"1 of {3 + sum(map(requests_at, LEVELS))}: status 500"


def test_one_flaw_is_told() -> None:
    one = measured()
    one.steps[0].shots[0].flaws = ("no usage",)
    assert failed(one) == ["well-formed streams"]
    assert "no usage" in judge(one, None, "no")[0].figure


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (("a b c d", "a b c d"), []),
        (("a b c d e f", "a b c x y z"), []),  # two tokens that are nearly as likely, late
        (("a b c d e f", "x b c d e f"), ["says the same twice"]),
        (("", ""), ["says the same twice"]),
        (("a b c d e f", "x y", "a b c d e f"), []),  # of the answers that agree best
    ],
)
def test_the_beginning_of_a_greedy_answer_is_the_same_twice(texts: tuple[str, ...], names: list[str]) -> None:
    one = measured()
    one.greedy[1:] = [Shot(text=text, ttft_s=0.1) for text in texts]
    assert failed(one) == names


def test_a_backend_that_answers_nothing_fails_everything_that_is_judged() -> None:
    dead = Measured("r/new", greedy=[Shot("no connection"), Shot("no connection")])
    assert len(failed(dead, measured("r/old"))) == 5


def test_the_report_has_both_sides_of_each_step() -> None:
    document: dict[str, Any] = report(measured(), measured("r/old", ttft_s=0.2), "text")
    assert document["beside"] == "r/old"
    assert [step["requests"] for step in document["steps"]] == list(LEVELS)
    assert all(step["ttft_s"] == 0.1 and step["beside"]["ttft_s"] == 0.2 for step in document["steps"])
