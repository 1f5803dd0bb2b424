"""The terminal: pieces of a text, pipes, errors."""

from __future__ import annotations

import io

import pytest

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
