"""A router in operation: drained on SIGTERM, reloaded under way, held up by nobody who reads slowly."""

from __future__ import annotations

import asyncio
import signal
import time

import aiohttp
import orjson

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, SSE_HEAD, Call, ScriptedBackend, chunk, event
from tests.support.router import RouterProcess, Site
from tests.support.stopwatch import Stopwatch

CHAT = "/v1/chat/completions"
STREAM = {"model": "m", "stream": True, "messages": []}


async def test_sigterm_lets_streams_finish_and_takes_no_new_ones(http: aiohttp.ClientSession) -> None:
    go_on = asyncio.Event()

    async def long(call: Call) -> None:
        await call.stream("one", finish=False)
        await go_on.wait()
        await call.send(chunk(event("two")), chunk(event(None, "stop")), chunk(DONE), b"0\r\n\r\n")

    async with ScriptedBackend(long) as b, RouterProcess([Site("a", "a", b.url)], head=OPEN) as r:
        replies = [await http.post(r.url + CHAT, json=STREAM) for _ in range(10)]
        r.terminate()
        await r.until_nobody_listens()
        assert r.process.poll() is None, "it left while streams were open"
        go_on.set()
        for reply in replies:
            assert (await reply.read()).endswith(DONE)
        assert await asyncio.to_thread(r.process.wait, 30) == 0


async def test_when_the_drain_time_is_over_streams_end_with_an_error_event(http: aiohttp.ClientSession) -> None:
    async def endless(call: Call) -> None:
        await call.stream("one", finish=False)
        await call.until_gone(10)

    head = OPEN + "[timeouts]\ndrain = 0.5\n"
    async with ScriptedBackend(endless) as b, RouterProcess([Site("a", "a", b.url)], head=head) as r:
        reply = await http.post(r.url + CHAT, json=STREAM)
        r.terminate()
        got = b""
        try:
            async for data in reply.content.iter_any():
                got += data
        except aiohttp.ClientPayloadError:
            pass
        reply.close()
        assert orjson.loads(got.strip().split(b"\n\n")[-1][6:])["error"]["code"] == "shutting_down"
        assert await asyncio.to_thread(r.process.wait, 30) == 0


async def test_reload_under_load_adds_and_removes_backends(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as old, ScriptedBackend() as new:
        async with RouterProcess([Site("old", "a", old.url)], head=OPEN) as r:
            stop = False
            seen: list[tuple[float, str]] = []  # when it was asked, and who answered

            async def load() -> None:
                while not stop:
                    asked_s = time.monotonic()
                    async with http.post(r.url + CHAT, json=STREAM) as reply:
                        assert reply.status == 200
                        assert (await reply.read()).endswith(DONE)
                        seen.append((asked_s, reply.headers["x-router-region"]))

            async def until_answered(region: str, after_s: float = 0.0) -> None:
                async with asyncio.timeout(30):
                    while not any(s > after_s and who == region for s, who in seen):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)

            running = [asyncio.get_running_loop().create_task(load()) for _ in range(5)]
            await until_answered("old")
            r.sites = [Site("old", "a", old.url), Site("new", "a", new.url)]
            r.write_config()
            answer = await asyncio.to_thread(r.ask_admin, "/admin/v1/config/reload", {})
            assert answer["changed"] is True
            await until_answered("new")
            r.sites = [Site("new", "a", new.url)]
            r.write_config()
            r.process.send_signal(signal.SIGHUP)
            await regions_are(r, {"new"})
            moved_s = time.monotonic()
            await until_answered("new", moved_s)
            stop = True
            await asyncio.gather(*running)
            assert {who for asked_s, who in seen if asked_s > moved_s} == {"new"}
            r.file.write_text("[router]\nlisten = 5\n")
            await refused_a_file(r)
            async with http.post(r.url + CHAT, json=STREAM) as reply:
                assert reply.status == 200
            r.errors_allowed = True  # the refused file is logged as an error


async def regions_are(r: RouterProcess, names: set[str]) -> None:
    async with asyncio.timeout(30):
        while {b["region"] for b in (await asyncio.to_thread(r.ask_admin, "/admin/v1/backends"))["data"]} != names:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def refused_a_file(r: RouterProcess) -> None:
    async with asyncio.timeout(30):
        while (await asyncio.to_thread(r.ask_admin, "/admin/v1/status"))["router"]["config_refused"] is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_client_that_never_reads_costs_little_and_stops_its_backend(http: aiohttp.ClientSession) -> None:
    sent = 0
    big = chunk(event("x" * 8000))

    async def flood(call: Call) -> None:
        nonlocal sent
        await call.send(SSE_HEAD)
        call.writer.transport.set_write_buffer_limits(high=0)
        for _ in range(4000):  # 32 MB
            await call.send(big)
            sent += len(big)

    async with ScriptedBackend() as b, RouterProcess([Site("a", "a", b.url)], head=OPEN) as r:
        b.behaviour = flood
        host, port = r.listen.split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        body = orjson.dumps(STREAM)
        writer.transport.pause_reading()
        writer.write(
            b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (CHAT.encode(), len(body), body)
        )
        held = -1
        async with asyncio.timeout(30):
            while sent != held:
                held = sent
                await asyncio.sleep(0.5)
        assert 0 < held < 16 * 1024 * 1024
        before_kb = _rss_kb(r.process.pid)
        assert before_kb < 120_000

        async def quick(call: Call) -> None:
            await call.stream("hello")

        b.behaviour = quick
        watch = Stopwatch(r.process.pid)
        for _ in range(100):
            async with http.post(r.url + CHAT, json=STREAM) as reply:
                assert (await reply.read()).endswith(DONE)
        assert watch.elapsed_s < 5
        writer.transport.abort()
        for _ in range(50):
            status = await asyncio.to_thread(r.ask_admin, "/admin/v1/status")
            if status["traffic"]["inflight"] == 0:
                break
            await asyncio.sleep(0.05)
        assert status["traffic"]["inflight"] == 0


def _rss_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
