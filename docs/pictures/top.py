"""Makes top.svg, ``router top`` over a demo that really runs: ``python docs/pictures/top.py``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from busy import busy_demo
from painting import keep

from cli.context import Context
from cli.top.app import Top

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
    async with busy_demo(_AT_ONCE) as (stage, out):
        svg = await picture(Context(out=out, admin_url=stage.admin_url))
    keep(Path(__file__).with_name("top.svg"), svg)


if __name__ == "__main__":
    asyncio.run(main())
