"""A demo that is busy, for pictures of it."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import AsyncIterator
from itertools import count

import aiohttp

from cli.commands.demo import DemoOptions, choose_ports
from cli.context import Context
from cli.demo.simulated import SimulatedWorld
from cli.demo.stage import Stage
from cli.output import Output
from router.tasks import spawn, stop


@contextlib.asynccontextmanager
async def busy_demo(at_once: int) -> AsyncIterator[tuple[Stage, Output]]:
    """Three clients keep this many requests on their way."""
    out = Output(stdout=io.StringIO(), stderr=io.StringIO(), env=dict(os.environ))
    options = DemoOptions(once=True, real=False, port=None, admin_port=None, prompts=1)
    with Stage(Context(out=out), SimulatedWorld(), choose_ports(options)) as stage:
        stage.start()
        keys = [stage.create_key(name) for name in ("search", "support", "batch")]
        numbers = count()
        lanes = [
            spawn(_keep_asking(stage, keys, numbers), name="asks", expected=(aiohttp.ClientError,))
            for _ in range(at_once)
        ]
        try:
            yield stage, out
        finally:
            await stop(*lanes)


async def _keep_asking(stage: Stage, keys: list[str], numbers: count[int]) -> None:
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(stage.url, timeout=timeout) as session:
        for number in numbers:
            body = {"model": stage.world.model, "stream": True, "max_tokens": 12 + number % 30}
            body["messages"] = [{"role": "user", "content": f"{number}: tell me of rivers"}]
            headers = {"authorization": f"Bearer {keys[number % len(keys)]}"}
            async with session.post("/v1/chat/completions", json=body, headers=headers) as answer:
                await answer.read()
