"""Lines of requests that come one by one stand below each other, and fit the terminal."""

from __future__ import annotations

import pytest
from rich.markup import render

from cli import tail_view

CELLS = {
    "time": "[dim]18:30:17[/]",
    "status": "[green]200[/]",
    "backend": "us-east/b",
    "first token": "387 ms",
    "in all": "1.77 s",
    "tokens": "365 → 60",
    "model": "llama-3.1-8b",
    "tenant": "acme",
    "request": "req-48508a97ec70-98",
}


@pytest.mark.parametrize("room", [60, 70, 80, 100, 120, 200])
def test_a_line_is_no_wider_than_the_terminal(room: int) -> None:
    told, heading = render(tail_view.line(CELLS, room)).plain, tail_view.heading(room)
    assert max(len(told), len(heading)) <= room
    for needed in ("req-48508a97ec70-98", "us-east/b", "387 ms", "200"):
        assert needed in told


def test_columns_stand_below_their_headings() -> None:
    told, heading = render(tail_view.line(CELLS, 200)).plain, tail_view.heading(200)
    for name, cell in (("status", "200"), ("backend", "us-east/b"), ("model", "llama-3.1-8b"), ("request", "req-4850")):
        assert told.index(cell) == heading.index(name)
    for name, cell in (("first token", "387 ms"), ("in all", "1.77 s"), ("tokens", "365 → 60")):
        assert told.index(cell) + len(cell) == heading.index(name) + len(name)


def test_remarks_come_last() -> None:
    assert tail_view.line(CELLS | {"": "2 attempts"}, 80).endswith("  2 attempts")
    assert tail_view.line(CELLS, 80) == tail_view.line(CELLS, 80).rstrip()
