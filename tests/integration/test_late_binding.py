"""When every engine's queue is long, requests wait in the router, where the more urgent one can still go first."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from tests.integration.conftest import OPEN
from tests.support.backends import Call, ScriptedBackend, say_hello
from tests.support.router import RouterProcess, Site

CHAT = "/v1/chat/completions"
#: about a hundred thousand tokens: ten seconds of work for an engine that nothing is known of
HEAVY = "lorem ipsum dolor sit amet " * 16_000


class Engine:
    """It is busy with the heavy prompt until it is told otherwise."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        if len(call.body) > len(HEAVY):
            await self.done.wait()
        await say_hello(call)


async def ask(http: aiohttp.ClientSession, r: RouterProcess, content: str, **headers: str) -> tuple[int, Any, Any]:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": content}]}
    async with http.post(r.url + CHAT, json=body, headers=headers) as reply:
        return reply.status, reply.headers, await reply.read()


async def test_requests_wait_in_the_router_and_the_more_urgent_goes_first(http: aiohttp.ClientSession) -> None:
    engine = Engine()
    async with (
        ScriptedBackend(engine) as b,
        RouterProcess([Site("us", "a", b.url, models=["m"])], head=OPEN) as r,
        asyncio.TaskGroup() as group,
    ):
        heavy = group.create_task(ask(http, r, HEAVY))
        await b.called(1)
        batch = group.create_task(ask(http, r, "x", **{"x-router-priority": "batch", "x-request-id": "batch"}))
        await asyncio.sleep(0.1)
        urgent = group.create_task(ask(http, r, "x", **{"x-request-id": "urgent"}))
        status, headers, body = await ask(http, r, "x", **{"x-router-timeout-ms": "300"})
        assert (status, b"wait_expired" in body) == (429, True), body
        assert 1 <= int(headers["retry-after"]) <= 30
        assert len(b.calls) == 1, "nothing was buried in the engine's queue"
        engine.done.set()
        assert [(await task)[0] for task in (heavy, urgent, batch)] == [200, 200, 200]
        sent_s = {}
        for name in ("urgent", "batch"):
            async with http.get(f"{r.admin}/admin/v1/requests/{name}") as reply:
                record = await reply.json()
            assert record["wait_s"] > 0.2
            assert len(record["attempts"]) == 1
            sent_s[name] = record["arrival_s"] + record["attempts"][0]["started_s"]
        assert sent_s["urgent"] < sent_s["batch"], "the first to come was the less urgent one"
