"""Clients that do not read: the backend is held back, nobody else suffers, and nothing is lost when they read on."""

from __future__ import annotations

import asyncio
import socket
import time

import aiohttp
import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, SSE_HEAD, Call, ScriptedBackend, chunk, event, whole
from tests.support.loris import Swarm
from tests.support.router import RouterProcess, Site

pytestmark = pytest.mark.alone

CHAT = "/v1/chat/completions"


async def ask_and_sleep(r: RouterProcess, **asked: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has asked, and lets the answer pile up in small kernel buffers."""
    host, port = r.listen.split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=client, limit=64 * 1024)
    body = orjson.dumps(asked)
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
        % (CHAT.encode(), len(body), body)
    )
    return reader, writer


async def test_a_slow_reader_does_not_spoil_the_connection_for_the_next(http: aiohttp.ClientSession) -> None:
    """The end of the answer is read, and its connection idle again, while the client has yet to read it."""
    large = orjson.dumps({"choices": [], "x": "y" * 6_000_000})
    small = orjson.dumps({"choices": [{"finish_reason": "stop"}]})

    async def behaviour(call: Call) -> None:
        await call.send(whole(200, large if b"large" in call.body else small))

    async with ScriptedBackend(behaviour) as b, RouterProcess([Site("near", "a", b.url)], head=OPEN) as r:
        for _ in range(3):
            reader, writer = await ask_and_sleep(r, model="m", messages=["large"])
            await asyncio.sleep(0.1)
            assert (await reader.read(-1)).endswith(large[-100:] + b"\r\n0\r\n\r\n")
            writer.close()
            async with http.post(r.url + CHAT, json={"model": "m"}, timeout=aiohttp.ClientTimeout(total=30)) as reply:
                assert reply.status == 200
                assert await reply.read() == small


async def test_a_slow_reader_holds_its_backend_back_and_loses_nothing() -> None:
    sent = 0
    events = [event(f"{i:06d}" + "x" * 10_000) for i in range(2_000)]

    async def behaviour(call: Call) -> None:
        nonlocal sent
        await call.send(SSE_HEAD)
        for data in events:
            await call.send(chunk(data))
            sent += 1
        await call.send(chunk(event(None, "stop")), chunk(DONE), b"0\r\n\r\n")

    async with ScriptedBackend(behaviour) as b, RouterProcess([Site("near", "a", b.url)], head=OPEN) as r:
        reader, writer = await ask_and_sleep(r, model="m", stream=True)
        held_back_at = 0
        async with asyncio.timeout(30):
            while not sent or sent != held_back_at:
                held_back_at = sent
                await asyncio.sleep(0.5)
        assert sent < len(events), "20 MB do not fit into any buffer on the way"
        got = await reader.read(-1)
        writer.close()
    assert sent == len(events)
    at = 0
    for number in range(len(events)):
        at = got.find(b'"content":"%06d' % number, at)
        assert at >= 0, f"event {number} is lost or out of order"
    assert got.endswith(b"[DONE]\n\n\r\n0\r\n\r\n")


async def loris(count: int) -> None:
    """All of the swarm is gone in 10 s, and those who ask properly are served as before."""
    waits_s: list[float] = []

    async def served(r: RouterProcess, http: aiohttp.ClientSession) -> None:
        while True:
            began_s = time.monotonic()
            async with http.post(r.url + CHAT, json={"model": "m"}) as reply:
                assert reply.status == 200
                await reply.read()
            waits_s.append(time.monotonic() - began_s)
            await asyncio.sleep(0.05)

    async with ScriptedBackend() as b:
        site = Site("near", "a", b.url)
        # no debug mode: thousands of connections need the speed that production has
        async with RouterProcess([site], head=OPEN, command=("-m", "router")) as r, aiohttp.ClientSession() as http:
            asking = asyncio.get_running_loop().create_task(served(r, http))
            await asyncio.sleep(1)
            host, port = r.listen.split(":")
            quiet = len(waits_s)
            held_s = await Swarm((host, int(port)), count).run(timeout_s=20)
            during = sorted(waits_s[quiet:])
            assert not asking.done()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    before = sorted(waits_s[:quiet])
    figures = {
        "swarm": count,
        "held_s_max": round(held_s, 2),
        "answers": len(during),
        "wait_ms_p50": [round(x[len(x) // 2] * 1000, 1) for x in (before, during)],
        "wait_ms_p99": [round(x[int(len(x) * 0.99)] * 1000, 1) for x in (before, during)],
    }
    print(figures)
    assert held_s <= 10.0, figures
    assert len(during) > 50, figures
    assert during[int(len(during) * 0.95)] < 0.5, figures


async def test_500_slow_senders_are_gone_in_10_s() -> None:
    await loris(500)


@pytest.mark.soak
async def test_5000_slow_senders_are_gone_in_10_s() -> None:
    await loris(5000)
