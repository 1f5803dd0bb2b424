"""Every command that a document names exists, with the flags it is given there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.app import build
from tests.tidy.tree import ROOT, markdown, name, text

ROUTER = typer.main.get_command(build())
MAKE = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

_INLINE = re.compile(r"`((?:router|make) [a-z][^`]*)`")
_LINE = re.compile(r"^\s*(?:\$ |docker compose exec router |\.venv/bin/)?((?:router|make) [a-z].*?)(?:\s+#.*)?$")


def commands(path: Path) -> Iterator[str]:
    """What is in backquotes or stands on a line of a code block."""
    inside = False
    for line in (text(path) or "").splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif inside:
            if match := _LINE.match(line):
                yield match[1]
        else:
            yield from _INLINE.findall(line)


def problem(command: str) -> str | None:
    program, *words = command.split()
    if program == "make":
        return None if words[0] in MAKE else f"there is no make {words[0]}"
    at: Any = ROUTER
    flags = _flags(at)
    for word in words:
        if hasattr(at, "commands") and not word.startswith("-"):
            if word not in at.commands:
                return f"there is no {word!r} in {at.name!r}"
            at = at.commands[word]
            flags |= _flags(at)
        elif word.startswith("--") and word.split("=")[0] not in flags:
            return f"{at.name!r} has no {word}"
    return None


def _flags(command: Any) -> set[str]:
    said = (option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts))
    return {"--help", *said}


@pytest.mark.parametrize("path", markdown(), ids=name)
def test_documents_name_commands_that_exist(path: Path) -> None:
    wrong = [f"{command}: {why}" for command in commands(path) if (why := problem(command)) is not None]
    assert not wrong, "\n".join(wrong)


def test_commands_are_found_and_judged() -> None:
    assert problem("router policies list --json") is None
    assert problem("router policies dance") is not None
    assert problem("router policies list --loudly") is not None
    assert problem("make demo ARGS=--once") is None
    assert problem("make coffee") is not None
    assert "make demo" in list(commands(ROOT / "README.md"))
