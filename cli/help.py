"""How help looks: plain text under headings, as fast as start-up.

Typer's other way, boxes drawn by rich, imports Markdown and syntax modules that take longer than all else at start.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class Program(TyperGroup):
    """The program's commands stand under the headings they were registered with (``rich_help_panel``)."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        widest = max(map(len, self.commands), default=0)
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None)
            text = command.get_short_help_str(formatter.width - widest - 6)
            sections.setdefault(heading if isinstance(heading, str) else "Commands", []).append(
                (name.ljust(widest), text)
            )
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl(rows)
