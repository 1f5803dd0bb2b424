"""The client leaves: in every phase, streaming or not, the backend hears of it at once and nothing stays behind."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, Call, ScriptedBackend, chunk, event
from tests.support.router import RouterProcess, Site
from tests.support.stopwatch import Stopwatch

CHAT = b"/v1/chat/completions"
CLIENTS = 25


async def leave(
    r: RouterProcess,
    *,
    stream: bool,
    after_s: float = 0.0,
    read_until: bytes | None = None,
    told: asyncio.Event | None = None,
) -> None:
    """Ask, perhaps wait for some bytes or to be told, and hang up."""
    host, port = r.listen.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = orjson.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "x"}]})
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (CHAT, len(body), body)
    )
    if read_until is not None:
        await reader.readuntil(read_until)
    if told is not None:
        await told.wait()
    await asyncio.sleep(after_s)
    writer.transport.abort()


class Gone(asyncio.Semaphore):
    """Counts the calls that the router has broken off."""

    def __init__(self) -> None:
        super().__init__(0)

    async def all(self) -> None:
        async with asyncio.timeout(30):
            for _ in range(CLIENTS):
                await self.acquire()


async def comes_to(r: RouterProcess, *, inflight: int, queued: int) -> None:
    """Wait for these counts of requests at a backend and of requests that wait for a place."""
    for _ in range(600):
        traffic = (await asyncio.to_thread(r.ask_admin, "/admin/v1/status"))["traffic"]
        if (traffic["inflight"], traffic["queued"]) == (inflight, queued):
            break
        await asyncio.sleep(0.05)
    assert (traffic["inflight"], traffic["queued"]) == (inflight, queued)


async def nothing_left(r: RouterProcess) -> None:
    await comes_to(r, inflight=0, queued=0)
    backends = (await asyncio.to_thread(r.ask_admin, "/admin/v1/backends"))["data"]
    assert [b["inflight"] for b in backends] == [0] * len(backends)
    assert [b["state"] for b in backends] == ["healthy"] * len(backends), "a client that leaves is nobody's fault"


@pytest.mark.parametrize("stream", [True, False])
async def test_while_waiting_for_the_first_token(stream: bool) -> None:
    gone = Gone()

    async def wait(call: Call) -> None:
        await call.until_gone(30)
        gone.release()

    async with ScriptedBackend(wait) as b, RouterProcess([Site("near", "a", b.url)], head=OPEN) as r:
        all_are_waiting = asyncio.Event()
        leaving = asyncio.gather(*(leave(r, stream=stream, told=all_are_waiting) for _ in range(CLIENTS)))
        async with asyncio.timeout(30):
            await b.called(CLIENTS)
        all_are_waiting.set()
        await leaving
        watch = Stopwatch(r.process.pid)
        await gone.all()
        assert watch.elapsed_s < 0.25
        await nothing_left(r)
        records = await asyncio.to_thread(r.records)
    assert {(x["cause"], x["status"]) for x in records} == {("client_gone", 499)}


async def test_in_the_middle_of_a_stream() -> None:
    gone = Gone()

    async def stream(call: Call) -> None:
        await call.stream("one", "two", finish=False)
        await call.until_gone(30)
        gone.release()

    async with ScriptedBackend(stream) as b, RouterProcess([Site("near", "a", b.url)], head=OPEN) as r:
        await asyncio.gather(*[leave(r, stream=True, after_s=0.05, read_until=b"two") for _ in range(CLIENTS)])
        watch = Stopwatch(r.process.pid)
        await gone.all()
        assert watch.elapsed_s < 0.25
        await nothing_left(r)
        records = await asyncio.to_thread(r.records)
    assert {(x["cause"], x["status"], x["output_tokens"]) for x in records} == {("client_gone", 200, 2)}


async def test_a_client_that_leaves_at_done_has_its_whole_answer() -> None:
    """Engines send the last chunk by itself, and clients close the connection at [DONE]: it may never go out."""

    async def all_but_the_last_chunk(call: Call) -> None:
        await call.stream("one", finish=False)
        await call.send(chunk(event(None, "stop")), chunk(DONE))
        await call.until_gone()

    async with ScriptedBackend(all_but_the_last_chunk) as b, RouterProcess([Site("near", "a", b.url)], head=OPEN) as r:
        await asyncio.gather(*[leave(r, stream=True, after_s=0, read_until=b"[DONE]") for _ in range(CLIENTS)])
        await nothing_left(r)
        records = await asyncio.to_thread(r.records)
    assert {(x["cause"], x["error"], x["status"], x["output_tokens"]) for x in records} == {("ok", None, 200, 2)}
    assert len(records) == CLIENTS


@pytest.mark.parametrize("stream", [True, False])
async def test_while_waiting_for_a_place(stream: bool) -> None:
    async def wait(call: Call) -> None:
        await call.until_gone(60)

    async with ScriptedBackend(wait) as b:
        site = Site("near", "a", b.url, extra="max_inflight = 1")
        async with RouterProcess([site], head=OPEN) as r:
            all_are_waiting, others_are_gone = asyncio.Event(), asyncio.Event()
            first = asyncio.create_task(leave(r, stream=stream, told=others_are_gone))
            async with asyncio.timeout(30):
                await b.called(1)
            others = asyncio.gather(*[leave(r, stream=stream, told=all_are_waiting) for _ in range(CLIENTS)])
            await comes_to(r, inflight=1, queued=CLIENTS)
            all_are_waiting.set()
            await others
            await comes_to(r, inflight=1, queued=0)
            assert len(b.calls) == 1
            others_are_gone.set()
            await first
            await nothing_left(r)


async def test_waiting_requests_are_served_as_places_become_free() -> None:
    running = most = 0

    async def slow(call: Call) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        await call.stream("x")

    async def ask(r: RouterProcess) -> bytes:
        host, port = r.listen.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = orjson.dumps({"model": "m", "stream": True, "messages": []})
        writer.write(
            b"POST %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (CHAT, len(body), body)
        )
        out = await reader.read()
        writer.close()
        return out

    async with ScriptedBackend(slow) as b:
        site = Site("near", "a", b.url, extra="max_inflight = 3")
        async with RouterProcess([site], head=OPEN) as r:
            answers = await asyncio.gather(*[ask(r) for _ in range(30)])
            await nothing_left(r)
    assert all(a.endswith(b"0\r\n\r\n") and b" 200 OK" in a[:20] for a in answers)
    assert most == 3
