"""The tree that Typer is given has every command of the list."""

from __future__ import annotations

from typer.main import get_command

from cli.app import COMMANDS, FURTHER
from cli.tree import build


def test_it_has_every_command_of_the_list() -> None:
    commands = get_command(build()).commands  # type: ignore[attr-defined]
    assert set(commands) == set(COMMANDS)
    for group, further in FURTHER.items():
        assert {word for word, _, _ in further} <= set(commands[group].commands)


def test_alone_a_command_is_complete_and_the_others_are_names() -> None:
    commands = get_command(build("keys")).commands  # type: ignore[attr-defined]
    assert "rotate" in commands["keys"].commands
    assert not hasattr(commands["regions"], "commands")
