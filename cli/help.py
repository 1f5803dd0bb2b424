"""How help looks: plain text under headings, as fast as start-up.

Typer's other way, boxes drawn by rich, imports Markdown and syntax modules that take longer than all else at start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cli.context import ContextName, context

#: In the order of the help.
HEADINGS = ("Run", "Look", "Operate", "Try out")


class Program(TyperGroup):
    """The program's commands stand under the headings they were registered with (``rich_help_panel``).

    Each command that takes ``--admin-url`` takes ``--context``, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for words, command in _inside(self):
            at = next((i for i, p in enumerate(command.params) if p.name == "admin_url"), None)
            if at is not None and not any("--context" in p.opts for p in command.params):
                command.params.insert(at, _context_option())
            for parameter in command.params:
                _complete(words, parameter)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        widest = max(map(len, self.commands), default=0)
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None)
            text = command.get_short_help_str(formatter.width - widest - 6)
            sections.setdefault(heading if isinstance(heading, str) else "Commands", []).append(
                (name.ljust(widest), text)
            )
        for heading, rows in sections.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def _inside(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands of a group, and of the groups in it, with their words."""
    for word, command in group.commands.items():
        here = (*words, word)
        yield from _inside(command, here) if hasattr(command, "commands") else ((here, command),)


def _complete(words: tuple[str, ...], parameter: Any) -> None:
    """The shell completes names of what the router has, where a parameter takes such names."""
    from cli.names import completions, kinds

    if wanted := kinds(" ".join(words), parameter.name):
        parameter._custom_shell_complete = lambda ctx, _, begun: completions(wanted, begun, os.environ, _flags(ctx))


def _flags(ctx: Any) -> dict[str, Any]:
    """The router that the words before name; those of the program count where the command's own say nothing."""
    chain = [ctx]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    named = {"admin_url": "admin_url", "admin_token": "admin_token", "context": "name"}
    return {flag: next((c.params[p] for c in chain if c.params.get(p)), None) for flag, p in named.items()}


def _context_option() -> Any:
    """As Typer makes it of a command's parameter."""

    def holder(_name: ContextName = None) -> None:
        pass

    app = typer.Typer(add_completion=False)
    app.command()(holder)
    (option,) = (p for p in get_command(app).params if "--context" in p.opts)
    option.expose_value, option.callback = False, _choose
    return option


def _choose(ctx: Any, _parameter: Any, name: str | None) -> None:
    context(ctx, name=name)
