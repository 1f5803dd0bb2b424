"""The journal's ring, its readers, and lines that nobody can forge."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from router.core.decisions import Candidate, Dispatch, Struck
from router.core.policy import make_policy
from router.telemetry import logs
from router.telemetry.journal import LINE_BYTES_MAX, AttemptRecord, Journal, Record, as_document, decision_document
from router.telemetry.kinds import kinds_of
from router.telemetry.writer import LineWriter, RotatingFile
from tests.support.fleets import ask, fleet_of


def test_the_ring_keeps_the_newest() -> None:
    journal = Journal(3)
    for n in range(5):
        journal.add(Record(f"r{n}", float(n), status=200 + n))
    assert [r.request_id for r in journal.list()] == ["r4", "r3", "r2"]
    assert [r.request_id for r in journal.list(limit=1)] == ["r4"]
    assert [r.request_id for r in journal.list(lambda r: r.status < 204)] == ["r3", "r2"]
    assert journal.find("r2") is not None
    assert journal.find("r1") is None


def test_only_the_newest_keep_their_decisions() -> None:
    journal = Journal(5000)
    for n in range(3000):
        records = [Record(f"r{n}", 0.0, candidates=_DECISION), Record(f"refused-{n}", 0.0)]
        for record in records:
            journal.add(record)
        journal.settle(records)
    assert _explained(journal) == [f"r{n}" for n in range(2999, 999, -1)]


def test_in_a_rush_one_in_eight_usual_requests_keeps_its_decision_and_each_unusual_one() -> None:
    journal = Journal(5000)
    usual = [_decided(f"r{n}") for n in range(64)]
    unusual = [
        _decided("failed", cause="server_error", error="upstream_error"),
        _decided("waited", wait_s=0.1),
        _decided("late", ttft_s=3.0),
        _decided("retried", attempts=[AttemptRecord("a", "r"), AttemptRecord("b", "r")]),
    ]
    for record in (*usual, *unusual):
        journal.add(record)
    journal.settle([*usual, *unusual], rush=True)
    kept = _explained(journal)[::-1]
    assert kept == [f"r{n}" for n in range(0, 64, 8)] + ["failed", "waited", "late", "retried"]


_DECISION = (Candidate("a", 0.1, (), None),)


def _decided(request_id: str, **fields: Any) -> Record:
    return Record(request_id, 0.0, candidates=_DECISION, **{"attempts": [AttemptRecord("a", "r")]} | fields)


def _explained(journal: Journal) -> list[str]:
    return [r.request_id for r in journal.list(lambda r: bool(r.candidates), limit=5000)]


def test_of_equal_ids_the_newest_is_found() -> None:
    journal = Journal(3)
    journal.add(Record("same", 1.0))
    journal.add(Record("same", 2.0))
    found = journal.find("same")
    assert found is not None
    assert found.arrival_s == 2.0


async def test_readers_get_what_matches_and_lose_what_they_are_too_slow_for() -> None:
    journal = Journal(3)
    everything, errors = journal.subscribe(), journal.subscribe(lambda r: r.status >= 500)
    for n in range(1500):
        journal.add(Record(f"r{n}", 0.0, status=500 if n == 7 else 200))
    assert (await errors.get()).request_id == "r7"
    assert (await everything.get()).request_id == "r0"
    assert (everything.dropped, errors.dropped) == (500, 0)
    journal.unsubscribe(everything)
    journal.unsubscribe(everything)
    journal.add(Record("late", 0.0))
    assert everything.dropped == 500


def test_readers_are_bounded() -> None:
    journal = Journal(1)
    for _ in range(32):
        journal.subscribe()
    with pytest.raises(RuntimeError, match="32 readers"):
        journal.subscribe()


def test_the_document_of_a_record_is_json_and_whole() -> None:
    record = Record(
        "id",
        1.5,
        attempts=[
            AttemptRecord("eu/a", "eu", 0.1, "unreachable"),
            AttemptRecord("us/a", "us", 0.2, "ok", kind="retry"),
        ],
        candidates=(
            Candidate("us/a", 0.3, (("rtt", 0.1), ("queue", 0.2)), None),
            Candidate("eu/a", None, (), Struck.TRIED),
        ),
        policy="ttft",
        residency=("eu", "us"),
        prefix_blocks=(1, 2),
    )
    document = orjson.loads(orjson.dumps(as_document(record)))
    assert set(Record.__struct_fields__) - {"candidates", "trace"} <= set(document)
    assert (document["backend"], document["region"]) == ("us/a", "us")
    assert document["attempts"][1]["kind"] == "retry"
    assert decision_document(record) == {
        "policy": "ttft",
        "backend": "us/a",
        "reason": None,
        "candidates": [
            {"backend": "us/a", "cost_s": 0.3, "terms": {"rtt": 0.1, "queue": 0.2}, "struck": None, "chosen": True},
            {"backend": "eu/a", "cost_s": None, "terms": {}, "struck": "tried", "chosen": False},
        ],
    }


def test_nobody_is_chosen_by_a_decision_that_nobody_is_left() -> None:
    struck = (Candidate("us/a", None, (), Struck.TRIED), Candidate("eu/a", None, (), Struck.CONTINUES))
    record = Record("id", 1.5, attempts=[AttemptRecord("us/a", "us", 0.1, "truncated")], candidates=struck)
    decision = decision_document(record)
    assert decision["backend"] is None
    assert not any(c["chosen"] for c in decision["candidates"])


def test_the_rule_that_decided_is_told() -> None:
    fleet = fleet_of("us-east/a", "us-west/a")
    decision = fleet.decide(ask(), make_policy("nearest", fleet.params), 0.0, random.Random(1))
    assert isinstance(decision, Dispatch)
    attempts = [AttemptRecord("us-east/a", "us-east")]
    record = Record("id", 1.5, attempts=attempts, candidates=decision.candidates)
    assert decision_document(record)["reason"] == "lowest round trip"


# -- lines --------------------------------------------------------------------------------------------------------

HOSTILE = 'x\n{"event":"request","id":"forged"}\r\x1b[2J\x1b]0;t\x07\x9b31m\u2028\u202e\x00\x7f'


@given(st.text(max_size=300))
def test_no_text_of_a_client_breaks_a_line(text: str) -> None:
    record = Record(text, 1.0, model=text, path=text, tenant=text, method=text, trace_id=text, served_model=text + "x")
    line = logs.access_json(record, *kinds_of([record]), 1, "edge-1")
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    document = orjson.loads(line)
    assert all(value.isprintable() for value in document.values() if isinstance(value, str))
    assert len(line) < 6000
    human = logs.access_text(record, *kinds_of([record]), 1, "edge-1").decode()
    assert human.endswith("\n")
    assert human[:-1].isprintable()


def test_a_forged_line_stays_inside_its_field() -> None:
    record = Record(HOSTILE, 1.0)
    line = logs.access_json(record, *kinds_of([record]), 1, "edge-1")
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line
    assert orjson.loads(line)["id"].startswith("x�{")


def test_a_line_for_a_usual_request_is_short() -> None:
    record = Record("req-1234567890", 1795226300.4, model="llama-3.1-8b", path="/v1/chat/completions", status=200)
    record.attempts = [AttemptRecord("us-east/a", "us-east")]
    assert len(logs.access_json(record, *kinds_of([record]), 1, "edge-1")) < 450


SECRETS = [
    ("Authorization: Bearer abc.def-123", "abc.def-123"),
    ("key sk-proj_A1b2C3d4E5 refused", "proj_A1b2C3d4E5"),
    ("cannot reach redis://:hunter2@10.0.0.1:6379/0", "hunter2"),
    ("cannot reach redis://user:hunter2@h", "hunter2"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_what_looks_like_a_secret_is_not_logged(text: str, secret: str) -> None:
    assert secret not in logs.redact(text)
    assert "***" in logs.redact(text)


def written(tmp_path: Path, emit: Callable[[], None], *, human: bool = False) -> bytes:
    """What logging ``emit()`` writes to a file."""
    path = tmp_path / "log"
    writer = LineWriter(RotatingFile(str(path), file_bytes=2**20, files=1), name="t")
    undo = logs.set_up(writer, human=human, level="DEBUG")
    try:
        emit()
    finally:
        undo()
        writer.close()
    return path.read_bytes()


def test_messages_and_tracebacks_are_one_json_line_each(tmp_path: Path) -> None:
    log = logging.getLogger("router.test")

    def emit() -> None:
        log.info("hello %s", HOSTILE)
        try:
            raise ValueError("sk-proj_A1b2C3d4E5")
        except ValueError:
            log.exception("it failed")

    lines = [orjson.loads(line) for line in written(tmp_path, emit).splitlines()]
    assert len(lines) == 2
    assert lines[0]["message"].isprintable()
    assert (lines[1]["level"], lines[1]["logger"]) == ("error", "router.test")
    assert "ValueError: sk-***" in lines[1]["exception"]
    assert "A1b2" not in str(lines)


def test_on_a_terminal_a_traceback_is_indented_text(tmp_path: Path) -> None:
    def emit() -> None:
        try:
            raise ValueError("boom\x1b[2J")
        except ValueError:
            logging.getLogger("router.test").exception("it failed: %s", "a\nb")

    text = written(tmp_path, emit, human=True).decode()
    assert "error: it failed: a�b\n" in text
    assert "    ValueError: boom�[2J\n" in text
    assert "\x1b" not in text


class Storm:
    """Lines over time, and those that are let through."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._repeats = logs.RepeatFilter(lambda: self.now_s)
        self.held_back = 0

    def passes(self, text: str, *args: object) -> bool:
        record = logging.LogRecord("n", logging.ERROR, "", 0, text, args, None)
        passed = self._repeats.filter(record)
        self.held_back = getattr(record, "held_back", 0)
        return passed


def test_a_storm_of_one_line_is_a_few_lines_and_a_count_ever_more_rarely() -> None:
    storm = Storm()
    told: list[tuple[float, int]] = []
    for second in range(3 * 3600):
        storm.now_s = float(second)
        if storm.passes("backend %s failed", "a"):
            told.append((storm.now_s, storm.held_back))
    assert told[:6] == [(0.0, 0), (1.0, 0), (2.0, 0), (10.0, 7), (30.0, 19), (70.0, 39)]
    assert {round(b - a) for (a, _), (b, _) in itertools.pairwise(told[-8:])} == {600}
    assert sum(held_back + 1 for _, held_back in told) == told[-1][0] + 1, "every line is told or counted"


def test_what_is_new_is_told_in_the_midst_of_a_storm() -> None:
    storm = Storm()
    assert sum(storm.passes("backend %s failed", "a") for _ in range(1000)) == 3
    assert storm.passes("backend %s failed", "b")
    assert storm.passes("another")
    assert sum(storm.passes("backend %s failed", n) for n in range(1000)) == 16, "many alike are a storm, too"


def test_what_was_quiet_for_long_begins_anew() -> None:
    storm = Storm()
    for _ in range(10):
        storm.passes("it failed")
    storm.now_s = 3600.0
    assert [storm.passes("it failed") for _ in range(5)] == [True, True, True, False, False]


def test_what_is_remembered_of_repeats_is_bounded() -> None:
    storm = Storm()
    for n in range(3_000):
        storm.now_s += 10.0
        storm.passes("%d", n)
    assert len(storm._repeats._equal._seen) <= 1000


# -- how long a line may be ---------------------------------------------------------------------------------------


def filled(kind: type[Any], character: str, **given: Any) -> Any:
    """A record whose every field is as long as its type allows: a new field is bounded, or the tests below fail."""
    long = character * 50_000
    by_type: dict[str, Any] = {
        "str": long,
        "bool": True,
        "int": 2**63 - 1,
        "float": 1234567890.1234567,
        "tuple[str, ...]": (long,) * 100,
    }
    fields = {field.name: str(kind.__annotations__[field.name]) for field in structs.fields(kind)}
    values = {name: by_type[text.removesuffix(" | None")] for name, text in fields.items() if name not in given}
    return kind(**values, **given)


@pytest.mark.parametrize("character", ["x", "\0", "\u2028", "ü", "\ud800", "\U0001f600", '"', "\\", "\n"], ids=ascii)
def test_no_line_is_long_whatever_a_record_holds(character: str) -> None:
    attempts = [filled(AttemptRecord, character)] * 100
    record = filled(
        Record, character, trace=None, attempts=attempts, candidates=(), prefix_blocks=(2**32 - 1,) * 50_000
    )
    line = orjson.dumps(as_document(record))
    assert len(line) <= LINE_BYTES_MAX
    assert orjson.loads(line).keys() == as_document(Record("id", 0.0)).keys()
    (kind,) = kinds_of([record])
    for made in (logs.access_json(record, kind, 1, "edge-1"), logs.access_text(record, kind, 1, "edge-1")):
        assert len(made) <= 8192
        assert made.count(b"\n") == 1
