"""What a command prints on a terminal with colours, as an SVG that needs no font from elsewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.text import Text

from cli.output import Output


class Painted(Output):
    """As on a terminal with colours, but nothing is drawn over."""

    width = 104

    def _console(self, stream: IO[str]) -> Console:
        options = {"force_terminal": True, "color_system": "standard", "highlight": False, "_environ": {}}
        return Console(file=stream, width=self.width, **options)

    @property
    def is_tty(self) -> bool:
        return False


def printed(text: str, *, title: str, width: int) -> str:
    """The picture of what was printed, with its colours."""
    picture = Console(record=True, width=width, file=io.StringIO())
    picture.print(Text.from_ansi(text.strip()))
    return picture.export_svg(title=title)


def keep(target: Path, svg: str) -> None:
    """The same bytes for the same picture."""
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "monospace")
    svg = re.sub(r"terminal-\d+-", "terminal-", svg)
    target.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
    print(target)
