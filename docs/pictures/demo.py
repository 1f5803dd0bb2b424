"""Makes demo.svg, the picture of the README, from a demo that really runs: ``python docs/pictures/demo.py``."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from painting import Painted, keep, printed

from cli.commands.demo import DemoOptions, run_demo
from cli.context import Context


def main() -> None:
    shown = io.StringIO()
    out = Painted(stdout=shown, stderr=io.StringIO(), env={**os.environ, "COLUMNS": str(Painted.width)})
    run_demo(Context(out=out), DemoOptions(once=True, real=False, port=None, admin_port=None, prompts=1))
    svg = printed(shown.getvalue(), title="router demo --once", width=Painted.width)
    keep(Path(__file__).with_name("demo.svg"), svg)


if __name__ == "__main__":
    main()
