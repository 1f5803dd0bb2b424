"""Makes page.png, the page of the admin address over a demo that really runs: ``python docs/pictures/page.py``.

It needs Chromium.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from busy import busy_demo

from tests.support.browser import visit

_AT_ONCE = 90
_BEFORE_S = 8.0


async def main() -> None:
    target = Path(__file__).with_name("page.png")
    async with busy_demo(_AT_ONCE) as (stage, _):
        await asyncio.sleep(_BEFORE_S)
        await visit(stage.admin_url + "/", picture=target, height=1400)
    print(target)


if __name__ == "__main__":
    asyncio.run(main())
