"""The doctor about engines that answer, answer something else, or do not."""

from __future__ import annotations

import email.utils

import pytest

from cli.doctor import of_backends
from router.config import parse
from router.observe.survey import Surveyed

TEXT = """
[[regions]]
name = "us"
[[regions.backends]]
name = "a"
url = "http://127.0.0.1:1"
engine = "vllm"
models = ["m"]
"""
WELL = Surveyed(engine="vllm", models=("m",), rtt_s=0.001, tells_load=True)


def states(found: Surveyed, now_s: float = 0.0) -> list[tuple[str, str]]:
    (spec,) = parse(TEXT, "r.toml").backends
    return [(s.state, s.text) for s in of_backends._lines(spec, found, now_s)]


def test_an_engine_that_is_what_the_file_says() -> None:
    assert [state for state, _ in states(WELL)] == ["ok"]


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        (Surveyed(problem="connection refused"), "fail", "connection refused"),
        (Surveyed(engine="sglang", models=("m",)), "warn", "it is sglang, and the file says vllm"),
        (Surveyed(engine="vllm", models=("n",), tells_load=True), "fail", "it does not serve m"),
        (Surveyed(engine="vllm", models=("m",)), "warn", "does not tell its load"),
    ],
)
def test_what_is_wrong_is_said(found: Surveyed, state: str, words: str) -> None:
    assert [s for s, text in states(found) if words in text] == [state]


@pytest.mark.parametrize(("skew_s", "expected"), [(0, []), (5, []), (-60, ["warn"]), (7200, ["fail"])])
def test_its_clock_is_read_from_its_answers(skew_s: float, expected: list[str]) -> None:
    now_s = 1.8e9
    found = Surveyed(
        engine="vllm", models=("m",), tells_load=True, date=email.utils.formatdate(now_s + skew_s, usegmt=True)
    )
    assert [s for s, text in states(found, now_s) if "clock" in text] == expected


def test_nobody_listens_at_the_address_of_the_file() -> None:
    (found,) = of_backends.look(parse(TEXT, "r.toml"), {})
    assert (found.state, found.what) == ("fail", "us/a")
    assert "refused" in found.text
