"""Makes top.svg, ``router top`` over a demo that really runs: ``python docs/pictures/top.py``."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import sys
from itertools import count
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from page import keep_asking

from cli.commands.demo import DemoOptions, choose_ports
from cli.context import Context
from cli.demo.simulated import SimulatedWorld
from cli.demo.stage import Stage
from cli.output import Output
from cli.top.app import Top
from router.tasks import spawn

SIZE = (120, 38)
_AT_ONCE = 40
_BEFORE_S = 30.0


async def picture(ctx: Context) -> str:
    """The first tab after half a minute."""
    app = Top(ctx, interval_s=0.5)
    async with app.run_test(size=SIZE):
        await asyncio.sleep(_BEFORE_S)
        return app.export_screenshot(title="router top", simplify=True)


async def main() -> None:
    out = Output(stdout=io.StringIO(), stderr=io.StringIO(), env=dict(os.environ))
    options = DemoOptions(once=True, real=False, port=None, admin_port=None, prompts=1)
    target = Path(__file__).with_name("top.svg")
    with Stage(Context(out=out), SimulatedWorld(), choose_ports(options)) as stage:
        stage.start()
        keys = [stage.create_key(name) for name in ("search", "support", "batch")]
        numbers = count()
        lanes = [spawn(keep_asking(stage, keys, numbers), name="asks") for _ in range(_AT_ONCE)]
        try:
            svg = await picture(Context(out=out, admin_url=stage.admin_url))
        finally:
            for lane in lanes:
                lane.cancel()
                with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
                    await lane
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "monospace")
    svg = re.sub(r"terminal-\d+-", "terminal-", svg)
    target.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
    print(target)


if __name__ == "__main__":
    asyncio.run(main())
