"""Regions and backends as tables: no number is cut, whatever the width, and what was named is shown as it is."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

import pytest

from cli import units
from cli.output import Output
from cli.region_tables import backend_facts, backends_table, print_region, probes_table, regions_table
from tests.cli.conftest import Json

Make = Callable[..., Json]
DRAIN = {"since_s": 1_790_000_000.0, "until_s": None, "by": "ann@ops", "reason": "new [GPUs]"}


def shown(what: object, columns: int) -> str:
    stream = io.StringIO()
    Output(stream, env={"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"}).line(what)  # type: ignore[arg-type]
    return re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 140, 200])
def test_no_number_is_cut(backend: Make, region: Make, columns: int) -> None:
    busy = backend("ap-northeast/long", inflight=123, queue=4567, requests_total=12_345_678, rtt_s=0.1234)
    probe = {"backend": "us-east/a", "ok": True, "status": 200, "rtt_s": 0.0123, "models": ["a", "b"], "error": None}
    for table in (
        regions_table([region(), region("ap-northeast", inflight=1234, rtt_s=0.2345)]),
        backends_table([backend(), busy]),
        probes_table([probe]),
        backend_facts(busy),
    ):
        text = shown(table, columns)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= columns
    assert "123/256" in shown(backends_table([busy]), columns)
    assert "234 ms" in " ".join(shown(regions_table([region(rtt_s=0.2345)]), columns).split())


def test_a_drain_tells_since_when_by_whom_and_why(backend: Make) -> None:
    text = shown(backend_facts(backend(draining=True, drain=DRAIN)), 200)
    assert "until it is resumed" in text
    assert "by ann@ops" in text
    assert "new [GPUs]" in text


def test_a_region_shows_its_last_errors_as_they_are(backend: Make, region: Make) -> None:
    stream = io.StringIO()
    sick = backend("us-east/b", last_error="refused [Errno 111]")
    print_region(Output(stream, env={}), region(backends=[backend(), sick]))
    assert "refused [Errno 111]" in stream.getvalue()


def test_all_is_well_and_no_column_is_wasted_on_reasons(region: Make) -> None:
    heading, line = lines_of(regions_table([region(since_s=time.time() - 250)]))
    assert "since" in heading.split()
    assert "why" not in heading.split()
    assert "4m 10s" in line


def test_what_is_down_says_since_when_and_why(region: Make, backend: Make) -> None:
    story = {"since_s": time.time() - 250, "why": "nobody answers: connection refused", "usable": False}
    dead = backend("us-east/a", state="ejected", **story)
    heading, line = lines_of(regions_table([region(state="down", backends=[dead], **story)]))
    assert heading.split()[-1] == "why"
    assert line.endswith("nobody answers: connection refused")
    assert lines_of(backends_table([dead]))[1].endswith("nobody answers: connection refused")
    assert any("4m 10s · nobody answers" in line for line in lines_of(backend_facts(dead)))


def test_who_drained_it_and_why(backend: Make) -> None:
    drained = backend("us-east/a", draining=True, usable=False, why="new kernel", who="anna", since_s=time.time() - 5)
    assert lines_of(backends_table([drained]))[1].endswith("new kernel; by anna")


def test_a_narrow_terminal_keeps_the_reason_and_gives_up_figures_first(region: Make) -> None:
    view = region(state="down", why="nobody answers", since_s=time.time() - 250, backends=[])
    heading, *lines = lines_of(regions_table([view]), columns=48)
    assert [line.split()[-1] for line in lines] == ["nobody", "answers"]
    assert "kv cache" not in heading


def lines_of(thing: object, columns: int = 0) -> list[str]:
    stream = io.StringIO()
    Output(stream, io.StringIO(), env={"COLUMNS": str(columns)} if columns else {}).line(thing)  # type: ignore[arg-type]
    return stream.getvalue().splitlines()


def test_an_overloaded_model_is_shown_with_the_time(backend: Make, region: Make) -> None:
    strained = backend(strained={"llama-3.1-8b": 1.7e9})
    assert f"llama-3.1-8b since {units.clock(1.7e9)}" in shown(backend_facts(strained), 200)
    assert "overloaded" not in shown(backend_facts(backend()), 200)
