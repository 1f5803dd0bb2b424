"""What a client that does not read costs, whom it slows down, and what is left of one that has gone."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time

import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, SSE_HEAD, Call, ScriptedBackend, answer, chunk, event
from tests.support.router import RouterProcess, Site
from tests.support.stopwatch import Stopwatch
from tests.support.watched_router import census, descriptors, resident_bytes

READER_BYTES_MAX = 256 * 1024
WATCHED = ("-m", "tests.support.watched_router")
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ask(r: RouterProcess, *, receive_bytes: int = 0, **asked: object) -> Connection:
    host, port = r.listen.split(":")
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=client, limit=16 * 1024)
    body = orjson.dumps({"model": "m", **asked})
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    return reader, writer


async def pour(
    call: Call, counter: itertools.count[int], *, size: int = 8000, stream: bool = True, gap_s: float = 0.0
) -> None:
    """Send without end, as fast as it is taken."""
    data = chunk(event("x" * size)) if stream else chunk(b"[" + b"1," * (size // 2))
    head = SSE_HEAD if stream else SSE_HEAD.replace(b"text/event-stream", b"application/json")
    await call.send(head)
    while True:
        await call.send(data)
        next(counter)
        await asyncio.sleep(gap_s)


async def until_level(values: list[int], read: object, *, timeout_s: float = 60.0) -> int:
    """Wait until a reading has not moved for 0.6 s; return it."""
    assert callable(read)
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        values.append(read())
        if len(values) > 6 and len(set(values[-6:])) == 1:
            return values[-1]
        await asyncio.sleep(0.1)
    raise AssertionError(f"never came to rest: {values[-10:]}")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_reader_that_stops_costs_little_and_pauses_its_backend(stream: bool) -> None:
    sent, readers = itertools.count(), 40

    async def behaviour(call: Call) -> None:
        if b"pour" in call.body:
            await pour(call, sent, stream=stream)
        await call.send(answer())

    async with ScriptedBackend(behaviour) as b:
        async with RouterProcess([Site("near", "a", b.url)], head=OPEN, command=WATCHED) as r:
            before = resident_bytes(r.process.pid)
            opened = [await ask(r, receive_bytes=16 * 1024, stream=stream, pour=1) for _ in range(readers)]
            poured = await until_level([], lambda: int(repr(sent)[6:-1]))
            each = (resident_bytes(r.process.pid) - before) / readers
            print(
                {"readers": readers, "resident_bytes_each": round(each), "poured_bytes_each": poured * 8000 // readers}
            )
            assert each <= READER_BYTES_MAX
            for _, writer in opened:
                writer.transport.abort()
            await until_empty(r)
            for call in b.calls:
                await call.until_gone()


async def test_a_slow_reader_slows_nobody() -> None:
    """The gaps between the tokens of 100 streams, alone and beside a client that reads 16 KB a second of a torrent."""

    async def behaviour(call: Call) -> None:
        if b"pour" in call.body:
            await pour(call, itertools.count())
        await call.send(SSE_HEAD)
        for _ in range(30):
            await call.send(chunk(event("token")))
            await asyncio.sleep(0.03)
        await call.send(chunk(event(None, "stop")), chunk(DONE), b"0\r\n\r\n")

    async def fast(r: RouterProcess, gaps_s: list[float]) -> None:
        reader, writer = await ask(r, stream=True)
        last_s = None
        while (line := await reader.readuntil(b"\n")) != b"0\r\n":
            if b"token" in line:
                now_s = time.monotonic()
                if last_s is not None:
                    gaps_s.append(now_s - last_s)
                last_s = now_s
        writer.close()

    async def slow(r: RouterProcess) -> None:
        reader, writer = await ask(r, receive_bytes=16 * 1024, stream=True, pour=1)
        try:
            while await reader.read(1600):  # noqa: ASYNC110 - this is the slowness
                await asyncio.sleep(0.1)
        finally:
            writer.transport.abort()

    async def gap_p99_s(r: RouterProcess, with_slow: bool) -> float:
        gaps_s: list[float] = []
        reading = asyncio.get_running_loop().create_task(slow(r)) if with_slow else None
        await asyncio.gather(*(fast(r, gaps_s) for _ in range(100)))
        if reading is not None:
            assert not reading.done()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return sorted(gaps_s)[int(len(gaps_s) * 0.99)]

    async with ScriptedBackend(behaviour) as b:
        async with RouterProcess([Site("near", "a", b.url)], head=OPEN, command=WATCHED) as r:
            for _ in range(5):  # a stall of the machine may spoil one, a slow reader would spoil all
                alone_s, beside_s = [await gap_p99_s(r, with_slow) for with_slow in (False, True)]
                print({"gap_ms_p99_alone": round(alone_s * 1000, 1), "gap_ms_p99_beside": round(beside_s * 1000, 1)})
                if beside_s <= 1.5 * alone_s + 0.03:
                    break
            assert beside_s <= 1.5 * alone_s + 0.03
            await until_empty(r)


async def until_empty(r: RouterProcess) -> None:
    """Nothing of any request is left; the router gets the time that idle connections live."""
    for _ in range(300):
        held = await asyncio.to_thread(census, r.file)
        assert held.pop("Cyclic") == 0, "what a request leaves must be freed at once: the collector comes seldom"
        held = {name: n for name, n in held.items() if name != "Task"}
        if not any(held.values()):
            break
        await asyncio.sleep(0.1)
    assert not any(held.values()), held
    status = await asyncio.to_thread(r.ask_admin, "/admin/v1/status")
    assert status["traffic"] == {**status["traffic"], "inflight": 0, "queued": 0}


@pytest.mark.parametrize(
    "when", ["before the head", "before a token", "while streaming", "whole", "while its body arrives"]
)
async def test_a_client_that_leaves_frees_everything(when: str) -> None:
    async def behaviour(call: Call) -> None:
        if when == "while streaming":
            await pour(call, itertools.count(), size=10, gap_s=0.02)
        elif when == "before a token":
            await call.send(SSE_HEAD)
        await call.until_gone(20)

    async with ScriptedBackend(behaviour) as b:
        async with RouterProcess([Site("near", "a", b.url)], head=OPEN, command=WATCHED) as r:
            await until_empty(r)
            tasks, files = (await asyncio.to_thread(census, r.file))["Task"], descriptors(r.process.pid)
            opened = []
            for _ in range(50):
                reader, writer = await ask(r, stream=when != "whole")
                if when == "while its body arrives":
                    writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n" + b"x" * 50_000)
                opened.append((reader, writer))
            async with asyncio.timeout(30):
                await b.called(len(opened))
            if when == "while streaming":
                for reader, _ in opened:
                    await reader.readuntil(b"xxx")
            watch = Stopwatch(r.process.pid)
            for _, writer in opened:
                writer.transport.abort()
            await asyncio.gather(*(call.until_gone() for call in b.calls), return_exceptions=True)
            assert watch.elapsed_s < 2.0, "backends go on for nobody"
            await until_empty(r)
            for _ in range(300):  # probes come and go
                left = (await asyncio.to_thread(census, r.file))["Task"] - tasks, descriptors(r.process.pid) - files
                if max(left) <= 0:
                    break
                await asyncio.sleep(0.1)
            assert max(left) <= 0, left
