"""A model that repeats itself, behind a real router: the engine is told to stop, and the client has a whole answer."""

from __future__ import annotations

import asyncio

import aiohttp
import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import ROLE, SSE_HEAD, Call, ScriptedBackend, chunk, event
from tests.support.router import RouterProcess, Site

ASK = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [{"role": "user", "content": "x"}],
}
#: tokens that the engine would say if nobody stopped it
MOST = 20_000


class Rambler:
    """An engine that says the same sentence for ever. ``said``: tokens, until the router left."""

    def __init__(self) -> None:
        self.said = 0
        self.left = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        words = ("I ", "do ", "not ", "know ", "what ", "to ", "say. ")
        try:
            await call.send(SSE_HEAD, chunk(ROLE))
            while self.said < MOST:
                await call.send(*(chunk(event(word)) for word in words))
                self.said += len(words)
                await asyncio.sleep(0)
        finally:
            self.left.set()


@pytest.mark.parametrize("loop_guard", ["stop", "observe"])
async def test_a_stream_that_repeats_itself(loop_guard: str) -> None:
    engine = Rambler()
    head = f'{OPEN}\n[plans.default]\nloop_guard = "{loop_guard}"\n'
    async with ScriptedBackend(engine) as b, RouterProcess([Site("a", "a", b.url, models=["m"])], head=head) as r:
        async with aiohttp.ClientSession() as http, http.post(f"{r.url}/v1/chat/completions", json=ASK) as reply:
            if loop_guard == "observe":
                await reply.content.readexactly(500_000)
            else:
                body = await reply.read()
                async with asyncio.timeout(30):
                    await engine.left.wait()
                assert engine.said < MOST, "it was not let go on"
            request_id = reply.headers["x-request-id"]
        if loop_guard == "stop":
            *events, done = body.decode().strip().split("\n\n")
            assert done == "data: [DONE]"
            last, usage = (orjson.loads(event.removeprefix("data: ")) for event in events[-2:])
            assert last["choices"][0]["finish_reason"] == "repetition"
            assert 500 < usage["usage"]["completion_tokens"] < MOST
        record = await asyncio.to_thread(r.record, request_id)
        assert record["repetition"] == ("stopped" if loop_guard == "stop" else "observed")
        assert record["repetition_bytes"] == len("I do not know what to say. ")
        async with aiohttp.ClientSession() as http, http.get(f"{r.admin}/metrics") as page:
            action = record["repetition"]
            assert f'router_repetitions_total{{model="m",action="{action}"}} 1' in await page.text()
