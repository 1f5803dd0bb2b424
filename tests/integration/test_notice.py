"""A backend goes away at a known time: what can be handed over is, and nothing is cut."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, Call, ScriptedBackend, chunk, event
from tests.support.router import RouterProcess, Site

CHAT = {"model": "m", "messages": [], "stream": True}


async def test_requests_that_wait_go_elsewhere_and_streams_end_where_they_began(http: aiohttp.ClientSession) -> None:
    end = asyncio.Event()
    begun = 0

    async def old(call: Call) -> None:
        """Every second request gets its first token at once, the others never."""
        nonlocal begun
        begun += 1
        if begun % 2:
            await call.stream("one", " two", finish=False)
            await end.wait()
            await call.send(chunk(event(" three", "stop")), chunk(DONE), b"0\r\n\r\n")
        else:
            await call.until_gone(30)

    async def ask() -> tuple[str, int, str]:
        async with http.post(f"{r.url}/v1/chat/completions", json=CHAT) as answer:
            body = (await answer.read()).decode()
            return answer.headers["x-router-region"], int(answer.headers["x-router-attempts"]), body

    async with ScriptedBackend(old) as a, ScriptedBackend() as b:
        sites = [Site("old", "a", a.url, models=["m"]), Site("new", "b", b.url, models=["m"])]
        async with RouterProcess(sites, head=OPEN) as r:
            await asyncio.to_thread(r.ask_admin, "/admin/v1/regions/new/drain", {})
            asking = [asyncio.create_task(ask()) for _ in range(8)]
            await a.called(8)
            await asyncio.to_thread(r.ask_admin, "/admin/v1/regions/new/resume", {})
            given = await asyncio.to_thread(r.ask_admin, "/admin/v1/regions/old/notice", {"in_s": 2, "by": "a test"})
            assert (given["state"], given["inflight"]) == ("leaving", 8)
            later = await ask()
            assert later[:2] == ("new", 1), "nothing new goes there"
            async with asyncio.timeout(30):
                while sum(task.done() for task in asking) < 4:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            end.set()
            answers = await asyncio.gather(*asking)
            records = await asyncio.to_thread(r.records)
    assert sorted((region, attempts) for region, attempts, _ in answers) == [("new", 2)] * 4 + [("old", 1)] * 4
    assert all(body.endswith("data: [DONE]\n\n") for _, _, body in answers)
    assert all(" three" in body for region, _, body in answers if region == "old")
    assert all(record["error"] is None for record in records)
