"""Telemetry and its statistics, without a loop: flushing is asked for."""

from __future__ import annotations

import math
import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.outcomes import Outcome
from router.telemetry.counters import Metrics
from router.telemetry.journal import AttemptRecord, Journal, Record
from router.telemetry.kinds import kinds_of
from router.telemetry.labels import Labels
from router.telemetry.sink import Telemetry
from router.telemetry.stats import WINDOW_S_MAX, Stats, is_error
from router.telemetry.writer import LineWriter, RotatingFile


class Clock:
    def __init__(self) -> None:
        self.at_s = 1000.0

    def __call__(self) -> float:
        return self.at_s


def telemetry(clock: Clock, access: LineWriter | None = None, journal: Journal | None = None) -> Telemetry:
    labels = Labels(lambda: ["m"], clock)
    return Telemetry(
        Journal(10) if journal is None else journal, Metrics(labels), Stats(labels, clock), access=access, now_s=clock
    )


def record(number: int = 0, **changes: object) -> Record:
    made = Record(f"id-{number}", 1000.0, model="m", status=200, duration_s=1.0, output_tokens=10, tenant="acme")
    made.attempts = [AttemptRecord("us/a", "us", 0.0, "ok")]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def fold(stats: Stats, *records: Record) -> None:
    for kind in dict.fromkeys(kinds_of(records)):
        stats.fold(kind)


def test_a_record_is_found_at_once_and_counted_with_the_flush() -> None:
    t = telemetry(Clock())
    t.request_done(record())
    assert t.journal.find("id-0") is not None
    assert t.stats.window(60)["requests"] == 0
    t.flush()
    assert t.stats.window(60)["requests"] == 1


def test_a_burst_is_folded_without_waiting_for_the_tick() -> None:
    t = telemetry(Clock())
    for number in range(1000):
        t.request_done(record(number))
    assert t.stats.window(60)["requests"] >= 700


def test_every_request_has_one_line_and_one_entry_in_the_file(tmp_path: Path) -> None:
    access = LineWriter(RotatingFile(str(tmp_path / "log"), file_bytes=2**20, files=1), name="t")
    file = LineWriter(RotatingFile(str(tmp_path / "journal"), file_bytes=2**20, files=1), name="j")
    t = telemetry(Clock(), access, Journal(10, file))
    t.generation = 7
    for number in range(600):
        t.request_done(record(number, cause="client_gone" if number == 5 else "ok", prefix_blocks=(1, 2**32 - 1)))
    t.stop()
    access.close()
    file.close()
    lines = [orjson.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["id"] for line in lines] == [f"id-{n}" for n in range(600)]
    assert lines[5]["cause"] == "client_gone"
    assert all(line["config_generation"] == 7 for line in lines)
    entries = [orjson.loads(line) for line in (tmp_path / "journal").read_bytes().splitlines()]
    assert len(entries) == 600
    assert entries[0]["prefix_blocks"] == [1, 2**32 - 1]
    assert entries[0]["attempts"][0]["backend"] == "us/a"
    found = t.journal.find("id-599")
    assert found is not None
    assert list(found.prefix_blocks) == [1, 2**32 - 1]


def test_loop_lag_is_the_longest_of_the_last_seconds() -> None:
    t = telemetry(Clock())
    assert t.loop_lag_s() == 0.0


# -- statistics ---------------------------------------------------------------------------------------------------


def test_windows_hold_what_happened_within_them() -> None:
    clock = Clock()
    stats = Stats(Labels(lambda: ["m"], clock), clock)
    for _ in range(100):
        fold(stats, record(output_tokens=5))
        clock.at_s += 1
    assert stats.window(10)["requests"] in (9, 10)
    assert stats.window(60)["requests"] in (59, 60)
    assert stats.window(900)["requests"] == 100
    assert stats.window(900)["output_tokens"] == 500
    assert stats.window(60)["requests_per_s"] == pytest.approx(1.0, rel=0.05)
    assert stats.window(900)["output_tokens_per_s"] == pytest.approx(5.0, rel=0.05), "it has lived 100 s only"
    clock.at_s += 1000
    assert stats.window(900)["requests"] == 0
    assert stats.window(900)["ttft_s"] == {"p50": None, "p90": None, "p99": None}


@pytest.mark.parametrize("gap_s", [0, 1])
def test_groups_add_up(gap_s: int) -> None:
    """Within a second, and over several, whose counts are packed."""
    clock = Clock()
    stats = Stats(Labels(lambda: ["m"], clock), clock)
    fold(stats, record(ttft_s=0.1))
    clock.at_s += gap_s
    fold(stats, record(ttft_s=0.2, tenant="other"))
    clock.at_s += gap_s
    fold(stats, record(attempts=[], status=503, error="no_backend", cause="refused", model="x", output_tokens=0))
    window = stats.window(60)
    assert (window["requests"], window["errors"], window["output_tokens"]) == (3, 1, 20)
    for group in ("by_region", "by_model", "by_tenant", "by_cause"):
        assert sum(entry["requests"] for entry in window[group]) == 3
    assert [entry["name"] for entry in window["by_region"]] == ["us", None]
    assert {entry["name"] for entry in window["by_model"]} == {"m", "other"}
    assert window["ttft_s"]["p50"] == pytest.approx(0.1, rel=0.03)
    assert window["ttft_s"]["p99"] == pytest.approx(0.2, rel=0.03)


@given(st.lists(st.floats(1e-4, 300), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_percentiles_are_within_their_promise(values: list[float], quantile: float) -> None:
    clock = Clock()
    stats = Stats(Labels(lambda: ["m"], clock), clock)
    for value in values:
        fold(stats, record(ttft_s=value))
    exact = sorted(values)[math.ceil(quantile * len(values)) - 1]
    assert stats.window(60)["ttft_s"][f"p{quantile * 100:.0f}"] == pytest.approx(exact, rel=0.0255)


def test_tenants_and_seconds_are_bounded() -> None:
    clock = Clock()
    stats = Stats(Labels(lambda: ["m"], clock), clock)
    for number in range(3000):
        fold(stats, record(tenant=f"t{number}"))
    assert len(stats.window(60)["by_tenant"]) <= 1001
    for _ in range(2 * WINDOW_S_MAX):
        clock.at_s += 1
        fold(stats, record())
    assert stats.window(10**9)["window_s"] == WINDOW_S_MAX


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        (None, "ok", False),
        (None, "client_gone", False),
        (None, "client_error", False),
        (None, "truncated", True),
        ("unauthorized", "refused", False),
        ("unknown_model", "refused", False),
        ("quota_exhausted", "refused", False),
        ("internal", "refused", True),
        ("stream_interrupted", "truncated", True),
    ],
)
def test_an_error_is_what_neither_the_client_nor_its_limits_caused(
    error: str | None, cause: str, expected: bool
) -> None:
    assert is_error(*kinds_of([Record("id", 0.0, error=error, cause=cause)])) is expected
    assert cause in {o.value for o in Outcome} | {"refused"}


# -- the writer ---------------------------------------------------------------------------------------------------


def test_files_rotate_between_lines_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "journal.jsonl"
    writer = LineWriter(RotatingFile(str(path), file_bytes=100, files=3), name="t")
    for number in range(50):
        writer.put(b'{"n":%d}\n' % (1000 + number))
    writer.close()
    files = sorted(path.parent.iterdir())
    assert [f.name for f in files] == ["journal.jsonl", "journal.jsonl.1", "journal.jsonl.2"]
    kept = [orjson.loads(line)["n"] for f in reversed(files) for line in f.read_bytes().splitlines()]
    assert kept == list(range(kept[0], 1050))
    assert all(f.stat().st_size <= 100 for f in files)


def test_a_file_is_continued_after_a_restart(tmp_path: Path) -> None:
    for number in range(2):
        writer = LineWriter(RotatingFile(str(tmp_path / "j"), file_bytes=1000, files=2), name="t")
        writer.put(b"%d\n" % number)
        writer.close()
    assert (tmp_path / "j").read_bytes() == b"0\n1\n"


def test_a_sink_that_blocks_costs_lines_never_time(tmp_path: Path) -> None:
    pipe_read, pipe_write = os.pipe()

    class Pipe:
        def write(self, data: bytes) -> None:
            while data:
                data = data[os.write(pipe_write, data) :]

        def close(self) -> None:
            os.close(pipe_write)

    writer = LineWriter(Pipe(), name="t", queue_bytes=100_000)
    line = b"x" * 999 + b"\n"
    for _ in range(1000):
        writer.put(line)  # nobody reads: the pipe holds 64 KiB, the queue 100 KB
    assert writer.dropped > 500
    read = 0
    kept = (1000 - writer.dropped) * 1000
    while read < kept:
        read += len(os.read(pipe_read, 65536))
    writer.close()
    os.close(pipe_read)
    assert read == kept


def test_a_sink_that_fails_is_counted(tmp_path: Path) -> None:
    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    writer = LineWriter(Full(), name="t")
    writer.put(b"a\nb\n")
    writer.close()
    assert (writer.errors, writer.dropped) == (1, 2)
