"""What is in flight at a backend that stops answering its probes: moved, ended, or left alone while it delivers."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, ROLE, SSE_HEAD, Call, ScriptedBackend, chunk, event, whole
from tests.support.router import RouterProcess, Site

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PATIENT = (
    'region = "near"\npolicy = "round_robin"\n'
    + OPEN
    + "[timeouts]\nfirst_token = 60\ntoken_gap = 60\nanswer = 60\n[probes]\ninterval = 0.2\n"
)


async def freeze(call: Call) -> None:
    await call.until_gone(60)


async def one_token_then_nothing(call: Call) -> None:
    await call.send(SSE_HEAD, chunk(ROLE), chunk(event("one")))
    await call.until_gone(60)


async def test_a_whole_answer_does_not_wait_for_a_backend_that_is_ejected(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend(freeze) as bad, ScriptedBackend() as good:
        async with RouterProcess([Site("near", "bad", bad.url), Site("far", "good", good.url)], head=PATIENT) as r:

            async def ask() -> tuple[int, str]:
                async with http.post(r.url + CHAT, json=ASK) as reply:
                    return reply.status, reply.headers["x-router-backend"]

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            await bad.called(1)
            bad.healthy = False
            began_s = time.monotonic()
            assert set(await asyncio.gather(*asking)) == {(200, "far/good")}
            assert time.monotonic() - began_s < 30


async def test_a_silent_stream_of_an_ejected_backend_ends(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend(one_token_then_nothing) as bad:
        async with RouterProcess([Site("near", "bad", bad.url)], head=PATIENT) as r:
            async with http.post(r.url + CHAT, json={**ASK, "stream": True}) as reply:
                await reply.content.readuntil(b"one")
                bad.healthy = False
                got = b""
                began_s = time.monotonic()
                try:
                    async for data in reply.content.iter_any():
                        got += data
                except aiohttp.ClientPayloadError:
                    pass
    assert b"stream_interrupted" in got
    assert time.monotonic() - began_s < 40


async def test_a_stream_that_delivers_is_left_alone(http: aiohttp.ClientSession) -> None:
    async def busy(call: Call) -> None:
        await call.stream(*(["word"] * 30), gap_s=0.3)

    async with ScriptedBackend(busy) as b:
        async with RouterProcess([Site("near", "a", b.url)], head=PATIENT) as r:
            async with http.post(r.url + CHAT, json={**ASK, "stream": True}) as reply:
                await reply.content.readuntil(b"word")
                b.healthy = False
                assert (await reply.read()).endswith(DONE)


async def test_a_probe_that_fails_once_moves_nothing(http: aiohttp.ClientSession) -> None:
    async def slow(call: Call) -> None:
        b.sick_turns = 1
        while b.sick_turns:  # noqa: ASYNC110 - until it was probed
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        await call.send(whole(200, {"choices": [{"finish_reason": "stop"}]}))

    async with ScriptedBackend(slow) as b:
        async with RouterProcess([Site("near", "a", b.url)], head=PATIENT.replace("0.2", "1")) as r:
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert reply.status == 200
    assert len(b.calls) == 1
