"""The router tells of a request afterwards what happened to it."""

from __future__ import annotations

import asyncio

import aiohttp

from cli.why import sentence
from tests.support.backends import Call, ScriptedBackend
from tests.support.router import RouterProcess, Site

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


async def test_a_continued_stream_says_where_it_was_cut_and_who_went_on(http: aiohttp.ClientSession) -> None:
    calls: list[Call] = []

    async def scripted(call: Call) -> None:
        calls.append(call)
        if len(calls) == 1:
            await call.stream("one ", "two ", finish=False)
            call.reset()
        else:
            await call.stream("three ", "four")

    async with ScriptedBackend(scripted) as first, ScriptedBackend(scripted) as second:
        sites = [Site("us", "a", first.url, continues="text"), Site("eu", "b", second.url, continues="text")]
        async with RouterProcess(sites, head='[auth]\nmode = "open"\n') as r:
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert b"[DONE]" in await reply.read()
                request_id = reply.headers["x-request-id"]
            record = await asyncio.to_thread(r.ask_admin, f"/admin/v1/requests/{request_id}")
    broken, last = (attempt["backend"] for attempt in record["attempts"])
    assert [attempt["said_tokens"] for attempt in record["attempts"]] == [2, None]
    assert sentence(record).startswith(f"The stream was cut at {broken} after 2 tokens (broke the connection) and went")
    assert f"went on at {last} " in sentence(record)
    struck = {c["backend"]: c["struck"] for c in record["decision"]["candidates"]}
    assert struck == {broken: "tried", last: None}
