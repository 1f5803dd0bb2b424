"""A region is killed under load, with real signals: nothing that had no token yet is lost, and the region comes back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from router.tasks import stop
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
        self.regions: list[str] = []  # of the answers that have begun
        self.problems: list[str] = []

    async def run(self, per_s: float) -> None:
        """Until it is cancelled."""
        count = 0
        while True:
            task = asyncio.get_running_loop().create_task(self._one(count))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            count += 1
            await asyncio.sleep(1 / per_s)

    async def drain(self) -> None:
        await asyncio.gather(*self._tasks)

    async def answers(self, count: int, region: str | None = None) -> list[str]:
        """The regions of the answers from now on, once there are so many; of one region, if it is named."""
        seen = len(self.regions)
        async with asyncio.timeout(60):
            while sum(region in (None, r) for r in self.regions[seen:]) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return self.regions[seen:]

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
                self.regions.append(reply.headers["x-router-region"])
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


async def told(r: RouterProcess, region: str, *, usable: bool) -> None:
    """Wait until the router says whether the backends of a region may be used."""
    async with asyncio.timeout(60):
        while True:
            backends = (await blocking(r.ask_admin, "/admin/v1/backends"))["data"]
            if all(b["usable"] is usable for b in backends if b["region"] == region):
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def load_on(r: RouterProcess, per_s: float) -> AsyncIterator[Load]:
    """Streams all the while, and what became of them: none that had no token is lost, none is taken for whole."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        load = Load(r.url, session)
        running = asyncio.get_running_loop().create_task(load.run(per_s))
        try:
            yield load
        finally:
            await stop(running)
            await load.drain()
    assert load.problems == []
    assert load.lost_before_token == 0
    assert load.wrong_success == 0
    assert load.whole + load.cut_after_token == len(load.regions)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
async def test_a_region_dies_and_returns(how: signal.Signals) -> None:
    with (
        SimFleet(model=MODEL, seen_from=NEAR) as fleet,
        RouterProcess(sites_of(fleet), head=f'region = "{NEAR}"\n{HEAD}') as r,
    ):
        near = [b for b in fleet.backends if b.region == NEAR]
        async with load_on(r, 40) as load:
            before = await load.answers(60)
            assert before.count(NEAR) > 0.8 * len(before), "the near region was not the one in use"
            for backend in near:
                await blocking(backend.kill if how is signal.SIGKILL else backend.terminate)
            await told(r, NEAR, usable=False)
            assert NEAR not in await load.answers(60)
            for backend in near:
                await blocking(backend.restart)
            await load.answers(5, NEAR)  # the region that came back is used again
        status = await blocking(r.ask_admin, "/admin/v1/status")
        assert status["traffic"]["inflight"] == 0


async def test_a_frozen_engine_is_left_and_used_again_after_it_thaws() -> None:
    head = f'region = "{NEAR}"\n{HEAD}[timeouts]\nfirst_token = 1.0\ntoken_gap = 1.5\n'
    with SimFleet(model=MODEL, seen_from=NEAR) as fleet, RouterProcess(sites_of(fleet), head=head) as r:
        near = [b for b in fleet.backends if b.region == NEAR]
        async with load_on(r, 20) as load:
            await load.answers(20, NEAR)
            for backend in near:
                backend.stop()
            await told(r, NEAR, usable=False)
            assert NEAR not in await load.answers(20)
            for backend in near:
                backend.cont()
            await load.answers(5, NEAR)
