"""A diary tells exactly the things that were written into it, and no line of another router or version is believed."""

from __future__ import annotations

from array import array

import msgspec
import orjson

from router.core.decisions import Candidate, Struck
from router.telemetry.diary_lines import CANDIDATES_MAX, Found, event_line, minute_line, read, request_line
from router.telemetry.history import History
from router.telemetry.journal import AttemptRecord, Record, as_document, decision_document
from router.telemetry.minutes import GROUPS, Rows

NAMES = ("us", "m", "key_1", "acme", "us/a", "ok")


def rows(requests: int, *, names: tuple[str, ...] = NAMES) -> Rows:
    return {names: (array("q", [requests, 0, 10 * requests, requests, -5, requests]), 7 * requests)}


def found(*lines: bytes, since_s: float = 0.0, records: int = 100) -> Found:
    return read(lines, "edge-1", records=records, since_s=since_s)


def test_a_request_is_the_same_afterwards_with_its_decision() -> None:
    record = Record("r1", 1.7e9, trace_id="t", key_id="key_1", model="m", residency=("eu", "us"), ttft_s=0.25)
    record.attempts = [AttemptRecord("us/b", "us", outcome="server_error"), AttemptRecord("us/a", "us", kind="retry")]
    record.prefix_blocks = [3, 1, 4]
    record.candidates = (
        Candidate("us/a", 0.5, (("rtt", 0.1), ("queue", 0.4)), None),
        Candidate("us/b", None, (), Struck.DRAINING),
    )
    (same,) = found(request_line("edge-1", record, decision=True)).records
    assert as_document(same, blocks=False) == as_document(record, blocks=False)
    assert decision_document(same) == decision_document(record)
    assert len(same.prefix_blocks) == 3
    (short,) = found(request_line("edge-1", record, decision=False)).records
    assert not short.candidates


def test_every_field_of_a_record_comes_back() -> None:
    """Each with a value that is not its default; those of a request on its way are never written."""
    record = Record("r1", 1.7e9)
    values = {int: 7, float: 0.7, str: "seven", bool: True}
    for field in msgspec.structs.fields(Record):
        kind = next(
            (k for k in values if str(field.type).startswith((f"<class '{k.__name__}'>", f"{k.__name__} |"))), None
        )
        if kind is not None and field.name not in ("request_id", "arrival_s"):
            setattr(record, field.name, values[kind])
    (same,) = found(request_line("edge-1", record, decision=True)).records
    assert as_document(same) == as_document(record)
    assert sum(value in ("seven", 7, 0.7, True) for value in as_document(same).values()) > 30


def test_of_many_candidates_the_chosen_and_the_cheapest_stay() -> None:
    record = Record("r1", 0.0, attempts=[AttemptRecord("us/99", "us")])
    record.candidates = tuple(Candidate(f"us/{n}", float(n), (), None) for n in range(100))
    (same,) = found(request_line("edge-1", record, decision=True)).records
    assert [c.backend for c in same.candidates] == ["us/99", *(f"us/{n}" for n in range(CANDIDATES_MAX - 1))]


def test_of_several_lines_about_a_minute_the_fullest_row_holds_and_runs_add_up() -> None:
    lines = [
        minute_line("edge-1", ("run1", 600), rows(3), over=True),
        minute_line("edge-1", ("run1", 600), rows(2), over=False),
        minute_line("edge-1", ("run2", 600), rows(5), over=False),
        minute_line("edge-1", ("run1", 60), rows(9), over=True),
    ]
    told = found(*lines, since_s=600)
    assert told.minutes == {("run1", 600): rows(3), ("run2", 600): rows(5)}
    assert told.unfinished == {("run2", 600)}


def test_an_event_comes_back() -> None:
    history = History("edge-1")
    history.note("drain", "us", before="serving", after="draining", why="new kernel", who="alice")
    (event,) = history.list()
    assert found(event_line("edge-1", event)).events == [event]


def test_lines_of_others_are_left_alone_and_broken_ones_are_counted() -> None:
    good = request_line("edge-1", Record("r1", 0.0), decision=False)
    minute = minute_line("edge-1", ("run", 60), rows(1), over=True)
    bad = orjson.dumps({"router": "edge-1", "minute": {"run": "x", "at_s": 60, "over": True, "rows": "eA=="}})
    short = minute_line("edge-1", ("run", 60), rows(1, names=NAMES[: len(GROUPS) - 1]), over=True)
    other = request_line("edge-2", Record("r2", 0.0), decision=False)
    told = found(good, other, good[:-9], b"\n", b"[]", b'{"router":"edge-1"}', minute[:-20], bad, short, minute)
    assert [r.request_id for r in told.records] == ["r1"]
    assert list(told.minutes.values())[-1] == rows(1)
    assert told.unread == 7


def test_only_the_newest_requests_are_read() -> None:
    lines = [request_line("edge-1", Record(f"r{n}", 0.0), decision=False) for n in range(10)]
    assert [r.request_id for r in found(*lines, records=3).records] == ["r7", "r8", "r9"]
