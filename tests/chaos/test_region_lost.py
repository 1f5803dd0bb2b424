"""A region is killed under load, with real signals: nothing that had no token yet is lost, and the region comes back."""

from __future__ import annotations

import asyncio
import signal
import time

import aiohttp
import pytest

from sim.fleet import SimFleet
from tests.conformance.conftest import MODEL, sites_of
from tests.support.router import RouterProcess

HEAD = '[auth]\nmode = "open"\n'
NEAR = "us-east"


class Load:
    """Streams, started at a steady pace; each is judged token by token."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._tasks: set[asyncio.Task[None]] = set()
        self.whole = self.cut_after_token = self.lost_before_token = self.wrong_success = 0
        self.regions: list[tuple[float, str]] = []
        self.problems: list[str] = []

    async def run(self, per_s: float, for_s: float) -> None:
        end = time.monotonic() + for_s
        count = 0
        while time.monotonic() < end:
            task = asyncio.get_running_loop().create_task(self._one(count))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            count += 1
            await asyncio.sleep(1 / per_s)

    async def drain(self) -> None:
        await asyncio.gather(*self._tasks)

    async def _one(self, number: int) -> None:
        body = {
            "model": MODEL,
            "stream": True,
            "max_tokens": 12,
            "messages": [{"role": "user", "content": f"{number} tell me about rivers"}],
        }
        got = b""
        try:
            async with self._session.post(self._url + "/v1/chat/completions", json=body) as reply:
                if reply.status != 200:
                    self.lost_before_token += 1
                    self.problems.append(f"{reply.status} {await reply.text()}")
                    return
                self.regions.append((time.monotonic(), reply.headers["x-router-region"]))
                async for data in reply.content.iter_any():
                    got += data
        except aiohttp.ClientPayloadError:
            if b"stream_interrupted" in got and b"[DONE]" not in got:
                self.cut_after_token += 1
            else:
                self.wrong_success += 1
            return
        except aiohttp.ClientError as error:
            self.lost_before_token += 1
            self.problems.append(repr(error))
            return
        if got.endswith(b"data: [DONE]\n\n") and b'"finish_reason":"length"' in got:
            self.whole += 1
        else:
            self.wrong_success += 1


async def blocking(function, *args):  # type: ignore[no-untyped-def]
    return await asyncio.to_thread(function, *args)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
async def test_a_region_dies_and_returns(how: signal.Signals) -> None:
    with (
        SimFleet(model=MODEL, seen_from=NEAR) as fleet,
        RouterProcess(sites_of(fleet), head=f'region = "{NEAR}"\n{HEAD}') as r,
    ):
        near = [b for b in fleet.backends if b.region == NEAR]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            load = Load(r.url, session)
            running = asyncio.get_running_loop().create_task(load.run(40, 9.0))
            await asyncio.sleep(2.0)
            killed_s = time.monotonic()
            for backend in near:
                await blocking(backend.kill if how is signal.SIGKILL else backend.terminate)
            await asyncio.sleep(2.0)
            back_s = time.monotonic()
            for backend in near:
                await blocking(backend.restart)
            await running
            await load.drain()
        status = await blocking(r.ask_admin, "/admin/v1/status")
        assert status["traffic"]["inflight"] == 0
    assert load.problems == []
    assert load.lost_before_token == 0
    assert load.wrong_success == 0
    assert load.whole + load.cut_after_token == len(load.regions) > 200
    before = [region for at, region in load.regions if at < killed_s]
    away = [region for at, region in load.regions if killed_s + 1.0 < at < back_s]
    after = [region for at, region in load.regions if at > back_s + 2.0]
    assert before.count(NEAR) > 0.8 * len(before), "the near region was not the one in use"
    assert NEAR not in away
    assert after.count(NEAR) > 0, "the region that came back was never used again"


async def test_a_frozen_engine_is_left_and_used_again_after_it_thaws() -> None:
    head = f'region = "{NEAR}"\n{HEAD}[timeouts]\nfirst_token = 1.0\ntoken_gap = 1.5\n'
    with SimFleet(model=MODEL, seen_from=NEAR) as fleet, RouterProcess(sites_of(fleet), head=head) as r:
        near = [b for b in fleet.backends if b.region == NEAR]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            load = Load(r.url, session)
            running = asyncio.get_running_loop().create_task(load.run(20, 14.0))
            await asyncio.sleep(1.5)
            for backend in near:
                backend.stop()
            await asyncio.sleep(4.0)
            thawed_s = time.monotonic()
            for backend in near:
                backend.cont()
            await running
            await load.drain()
    assert load.problems == []
    assert load.lost_before_token == 0
    assert load.wrong_success == 0
    assert any(region == NEAR for at, region in load.regions if at > thawed_s + 2.0)
