"""Makes status.svg and explain.svg over a demo that really runs: ``python docs/pictures/commands.py``."""

from __future__ import annotations

import asyncio
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from busy import busy_demo
from painting import Painted, keep, printed

from cli.commands.explain import ExplainOptions, run_explain
from cli.commands.status import StatusOptions, run_status
from cli.context import Context

_AT_ONCE = 20
_BEFORE_S = 20.0
_TRIES = 50


def picture(name: str, admin_url: str, command: Callable[[Context], object], wanted: str) -> None:
    """``wanted`` stands in it: a request as most are."""
    for _ in range(_TRIES):
        shown = io.StringIO()
        out = Painted(stdout=shown, stderr=io.StringIO(), env={**os.environ, "COLUMNS": str(Painted.width)})
        command(Context(out=out, admin_url=admin_url))
        if wanted in shown.getvalue():
            break
    target = Path(__file__).with_name(f"{name.split()[0]}.svg")
    text = re.sub(
        r"\S*/meridian-demo-\w+/", "/etc/meridian/", shown.getvalue()
    )  # a folder that is gone, of a random name
    keep(target, printed(text, title=f"router {name}", width=Painted.width))


async def main() -> None:
    async with busy_demo(_AT_ONCE) as (stage, _):
        await asyncio.sleep(_BEFORE_S)
        url = stage.admin_url
        await asyncio.to_thread(
            picture, "status", url, lambda ctx: run_status(ctx, StatusOptions(as_json=False)), "ready"
        )
        await asyncio.to_thread(picture, "explain last", url, lambda ctx: run_explain(ctx, LAST), "lowest cost")


LAST = ExplainOptions("last", {}, as_json=False)

if __name__ == "__main__":
    asyncio.run(main())
