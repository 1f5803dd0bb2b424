"""docs/cli.md is the program's own description."""

from __future__ import annotations

from pathlib import Path

from cli.docs import markdown

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_what_the_program_says() -> None:
    assert PAGE.read_text() == markdown(), "python -m cli.docs > docs/cli.md"


def test_every_option_is_described() -> None:
    empty = [line for line in markdown().splitlines() if line.startswith("| `-") and line.endswith("|  |")]
    assert not empty
