"""Makes demo.svg, the picture of the README, from a demo that really runs: ``python docs/pictures/demo.py``."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[2]))

from cli.commands.demo import DemoOptions, run_demo
from cli.context import Context
from cli.output import Output

WIDTH = 104


class Painted(Output):
    """As on a terminal with colours, but nothing is drawn over."""

    def _console(self, stream: IO[str]) -> Console:
        options = {"force_terminal": True, "color_system": "standard", "highlight": False, "_environ": {}}
        return Console(file=stream, width=WIDTH, **options)

    @property
    def is_tty(self) -> bool:
        return False


def main() -> None:
    shown = io.StringIO()
    out = Painted(stdout=shown, stderr=io.StringIO(), env={**os.environ, "COLUMNS": str(WIDTH)})
    run_demo(Context(out=out), DemoOptions(once=True, real=False, port=None, admin_port=None, prompts=1))
    picture = Console(record=True, width=WIDTH, file=io.StringIO())
    picture.print(Text.from_ansi(shown.getvalue().strip()))
    target = Path(__file__).with_name("demo.svg")
    svg = picture.export_svg(title="router demo --once")
    # No font from another site, and the same bytes for the same demo.
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "monospace")
    svg = re.sub(r"terminal-\d+-", "terminal-", svg)
    target.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
