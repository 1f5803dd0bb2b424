"""Makes page.png, the page of the admin address over a demo that really runs: ``python docs/pictures/page.py``.

It needs Chromium.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
from itertools import count
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[2]))

from cli.commands.demo import DemoOptions, choose_ports
from cli.context import Context
from cli.demo.simulated import SimulatedWorld
from cli.demo.stage import Stage
from cli.output import Output
from router.tasks import spawn
from tests.support.browser import visit

_AT_ONCE = 90
_BEFORE_S = 8.0


async def keep_asking(stage: Stage, keys: list[str], numbers: count[int]) -> None:
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(stage.url, timeout=timeout) as session:
        for number in numbers:
            body = {"model": stage.world.model, "stream": True, "max_tokens": 12 + number % 30}
            body["messages"] = [{"role": "user", "content": f"{number}: tell me of rivers"}]
            headers = {"authorization": f"Bearer {keys[number % len(keys)]}"}
            async with session.post("/v1/chat/completions", json=body, headers=headers) as answer:
                await answer.read()


async def main() -> None:
    out = Output(stdout=io.StringIO(), stderr=io.StringIO(), env=dict(os.environ))
    options = DemoOptions(once=True, real=False, port=None, admin_port=None, prompts=1)
    target = Path(__file__).with_name("page.png")
    with Stage(Context(out=out), SimulatedWorld(), choose_ports(options)) as stage:
        stage.start()
        keys = [stage.create_key(name) for name in ("search", "support", "batch")]
        numbers = count()
        lanes = [spawn(keep_asking(stage, keys, numbers), name="asks") for _ in range(_AT_ONCE)]
        await asyncio.sleep(_BEFORE_S)
        await visit(stage.admin_url + "/", picture=target, height=1400)
        for lane in lanes:
            lane.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
                await lane
    print(target)


if __name__ == "__main__":
    asyncio.run(main())
