"""One request on an axis of time."""

from __future__ import annotations

import io

import pytest

from cli.output import Output
from cli.waterfall import parts, waterfall
from tests.cli.conftest import Json


@pytest.fixture
def story(record: Json) -> Json:
    """Refused at one backend, then answered by another after a wait."""
    first, second = record["attempts"]
    times = {"connect_s": 0.01, "first_byte_s": 0.05, "ttft_s": 0.08, "duration_s": 1.0}
    return record | {
        "admitted_s": 0.002,
        "wait_s": 0.3,
        "duration_s": 1.35,
        "attempts": [first | {"started_s": 0.302}, second | {"started_s": 0.35} | times],
    }


def shown(record: Json, columns: int) -> str:
    stream = io.StringIO()
    Output(stream, env={"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"}).line(waterfall(record))
    return stream.getvalue()


def test_every_part_has_its_place(story: Json) -> None:
    found = [(p.what, round(p.from_s, 3), round(p.took_s, 3)) for p in parts(story)]
    assert found == [
        ("auth and limits", 0.0, 0.002),
        ("wait for a place", 0.002, 0.3),
        ("us-east/b", 0.302, 0.002),
        ("us-east/a retry", 0.35, 1.0),
        ("connect", 0.35, 0.01),
        ("first byte", 0.36, 0.04),
        ("first token", 0.4, 0.03),
        ("last byte", 0.43, 0.92),
    ]


def test_parts_of_an_attempt_add_up_to_it(story: Json) -> None:
    own = [p for p in parts(story) if p.own]
    assert sum(p.took_s for p in own) == pytest.approx(1.0)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_it_is_readable(story: Json, columns: int) -> None:
    text = shown(story, columns)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= columns
    for word in ("auth", "wait", "connect", "first", "token", "last", "byte", "us-east/b", "unreachable", "predicted"):
        assert word in text, word
    assert "920 ms" in " ".join(text.split())
    assert ("─" in text) == (columns >= 80), "texts are wrapped before the picture goes"


def test_the_bars_follow_each_other(story: Json) -> None:
    lines = shown(story, 120).splitlines()
    starts = [min((line.find(mark) for mark in "─━" if mark in line), default=-1) for line in lines[1:]]
    known = [s for s in starts if s >= 0]
    assert known == sorted(known[:3]) + known[3:]
    assert len(known) >= 8


def test_a_request_that_was_refused_is_short(story: Json) -> None:
    refused = story | {"attempts": [], "wait_s": 0.0, "admitted_s": None, "duration_s": 0.001}
    assert parts(refused) == []


def test_a_whole_answer_has_no_first_token(story: Json) -> None:
    whole = story["attempts"][1] | {"ttft_s": None, "kind": "first"}
    assert [p.what for p in parts(story | {"attempts": [whole]}) if p.own] == ["connect", "first byte", "last byte"]
