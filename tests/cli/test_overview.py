"""The help of the whole program: complete, narrow, and the same with and without Typer."""

from __future__ import annotations

from typer.main import get_command
from typer.testing import CliRunner

from cli.app import COMMANDS, build
from cli.errors import MEANINGS
from cli.overview import OPTIONS, overview
from tests.support.cli import router


def test_it_is_the_same_with_and_without_typer() -> None:
    assert router("--help").out == router("-h").out == overview()
    assert CliRunner().invoke(build(), ["--admin-url", "http://a:1", "--help"]).output.strip() == overview().strip()
    assert CliRunner().invoke(build(), []).output.strip() == overview().strip()


def test_its_options_are_those_of_the_program() -> None:
    known = {option: (p.help or "") for p in get_command(build()).params for option in p.opts}
    for spelling, text in OPTIONS.items():
        name = spelling.split(", ")[-1].split()[0]
        assert name == "--help" or known.pop(name).startswith(text.rstrip(".")), spelling
    assert not known


def test_everything_is_in_it_and_nothing_is_cut() -> None:
    lines = overview().splitlines()
    assert max(map(len, lines)) <= 80
    assert not {name for name in COMMANDS if not any(line.startswith(f"  {name} ") for line in lines)}
    assert not [text for code, text in MEANINGS.items() if f"  {int(code):<3}  {text}" not in lines]
