"""The terminal: pieces of a text, pipes, errors."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.errors import CliError
from cli.output import Output, Table
from tests.cli.conftest import Play


def test_pieces_are_wrapped_behind_a_bar(play: Play) -> None:
    write = play.context.out.flow("| ", 12)
    for piece in ("one", " two", " three", " four", "\nfive", "\n", "six"):
        write(piece)
    assert play.out == "| one two\n| three four\n| five\n| six"


def test_without_a_width_nothing_is_wrapped(play: Play) -> None:
    write = play.context.out.flow()
    for piece in ("a" * 500, " ", "b\n", "\n", "  c"):
        write(piece)
    assert play.out == "a" * 500 + " b\n\n  c"


def test_text_from_outside_is_no_markup(play: Play) -> None:
    play.context.out.write("[red]x[/red]")
    assert play.out == "[red]x[/red]"


def test_errors_go_to_stderr_with_what_to_do(play: Play) -> None:
    play.context.out.error(CliError("it [broke]", details=["a:1: [x]"], hint="Do [this]."))
    assert play.out == ""
    assert play.err == "error: it [broke]\n  · a:1: [x]\nDo [this].\n"


def test_what_looks_like_markup_is_shown(play: Play) -> None:
    """Names of tables in regions.toml do: the place of a warning must not vanish."""
    place = '[plans.default] residency: no region has the jurisdiction "mars"'
    for say in (play.context.out.warn, play.context.out.note, play.context.out.done):
        say(place)
    assert play.err.count("[plans.default]") == 2
    assert "✓ [plans.default] residency" in play.out


def test_a_table_without_rows_is_its_headings(play: Play) -> None:
    play.context.out.line(Table(("a", "b"), drop=("b",)))
    assert play.out.split() == ["a", "b"]


@pytest.mark.parametrize(("columns", "kept"), [(40, "name size note"), (20, "name size"), (12, "name")])
def test_columns_go_in_the_order_they_may(columns: int, kept: str) -> None:
    stream = io.StringIO()
    out = Output(stream, env={"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"})
    table = Table(("name", "size", "note"), drop=("note", "size"))
    table.add_row("a" * 10, "123456", "b" * 15)
    out.line(table)
    assert stream.getvalue().splitlines()[0].split() == kept.split()


_NUMBERS = st.sampled_from(
    ["0", "7", "350 ms", "35.2 s", "1.24 s", "3m 12s", "4,096", "1.3M", "12/256", "–", "$1,234.50"]
)
_NAMES = st.text("abcdefghij-/", min_size=1, max_size=24)
_TEXTS = st.lists(_NAMES, min_size=1, max_size=5).map(" ".join)


@given(
    columns=st.integers(10, 120),
    rows=st.lists(st.tuples(_NAMES, _NUMBERS, _TEXTS, _NUMBERS, _TEXTS), min_size=1, max_size=4),
    tty=st.booleans(),
)
def test_no_number_of_a_table_is_ever_cut(columns: int, rows: list[tuple[str, ...]], tty: bool) -> None:
    stream = io.StringIO()
    env = {"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "xterm"} | ({"FORCE_COLOR": "1"} if tty else {})
    table = Table(("name", "first", "words", "second", ""), right=("first", "second"))
    for row in rows:
        table.add_row(*row)
    Output(stream, env=env).line(table)
    shown = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= columns
    words = shown.split()
    for row in rows:
        for number in (row[1], row[3]):
            for part in number.split():
                assert part in words, f"{part} is cut or gone"
    letters = "".join(words)
    for row in rows:
        for part in row[0].split() + row[2].split() + row[4].split():
            if len(part) <= min(6, columns - 8):
                assert part in letters


def test_a_table_with_no_room_becomes_lines() -> None:
    stream = io.StringIO()
    table = Table(("name", "size"), right=("size",))
    table.add_row("us-east/first", "123,456")
    table.add_row("b", "7")
    Output(stream, env={"COLUMNS": "16", "NO_COLOR": "1", "TERM": "dumb"}).line(table)
    assert [line.split() for line in stream.getvalue().splitlines()] == [
        ["name"],
        ["us-east/first"],
        ["size"],
        ["123,456"],
        [],
        ["name"],
        ["b"],
        ["size"],
        ["7"],
    ]
