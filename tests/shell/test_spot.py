"""Machines are asked whether they are to go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from router import clock
from router.core.roll import Leaves
from router.discovery.spot import Spot


class Machine:
    """Its metadata service: a status and a body."""

    status, body, asked = 404, "", 0
    headers: list[str | None]
    url = ""

    def __init__(self) -> None:
        self.headers = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.headers = [request.headers.get("Metadata-Flavor"), request.headers.get("Metadata")]
        return web.Response(status=self.status, text=self.body)


@asynccontextmanager
async def machine() -> AsyncIterator[Machine]:
    made = Machine()
    app = web.Application()
    app.router.add_get("/notice", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/notice"
    try:
        yield made
    finally:
        await runner.cleanup()


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_notice_is_told_once_and_taken_back() -> None:
    told: list[tuple[str, Leaves | None]] = []
    spot = Spot(lambda name, leaves: told.append((name, leaves)), interval_s=0.02)
    async with machine() as a, machine() as b:
        spot.watch({"us-east/a": a.url, "us-east/b": b.url})
        spot.start()
        try:
            await until(lambda: a.asked > 2 and b.asked > 2)
            assert told == []
            assert a.headers == ["Google", "true"], "without these Google and Azure do not answer"
            a.status, a.body = 200, '{"in_s": 120}'
            await until(lambda: told)
            ((name, leaves),) = told
            assert (name, leaves.by if leaves else None) == ("us-east/a", "its machine")
            assert leaves is not None
            assert 100 < leaves.until_s - clock.monotonic_s() <= 120
            asked = a.asked
            await until(lambda: a.asked > asked + 3)
            assert len(told) == 1, "said again it is old news"
            a.status = 500
            asked = a.asked
            await until(lambda: a.asked > asked + 3)
            assert len(told) == 1, "no answer takes nothing back"
            a.status = 404
            await until(lambda: len(told) == 2)
            assert told[1] == ("us-east/a", None)
        finally:
            await spot.stop()


async def test_what_was_said_of_a_backend_that_is_gone_is_over() -> None:
    told: list[tuple[str, Leaves | None]] = []
    spot = Spot(lambda name, leaves: told.append((name, leaves)), interval_s=0.02)
    async with machine() as a:
        a.status, a.body = 200, "TRUE"
        spot.start()
        try:
            spot.watch({"us-east/a": a.url})
            await until(lambda: told)
            spot.watch({})
            assert told[-1] == ("us-east/a", None)
        finally:
            await spot.stop()
