"""Clients that ask for long answers and never read them: they are cut off, and starve nobody until then."""

from __future__ import annotations

import asyncio
import socket
import time

import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import SSE_HEAD, Call, ScriptedBackend, answer, chunk, event
from tests.support.router import RouterProcess, Site

pytestmark = pytest.mark.alone

PLACES = 20
EVENTS = b"".join(chunk(event("x" * 8000)) for _ in range(20))


async def engine(call: Call) -> None:
    """Endless to who asks for a stream; at once to everybody else."""
    if b'"stream":true' not in call.body:
        await call.send(answer())
        return
    await call.send(SSE_HEAD)
    while True:  # until it is cut off
        await call.send(EVENTS)


def request(**asked: object) -> bytes:
    body = orjson.dumps({"model": "m", "messages": [], **asked})
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def deaf(r: RouterProcess, kernel_bytes: int = 16 * 1024) -> socket.socket:
    host, port = r.listen.split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kernel_bytes)
    client.connect((host, int(port)))
    client.sendall(request(stream=True))
    client.setblocking(False)
    return client


def cut_off(client: socket.socket) -> bool:
    """Whether the router has reset the connection, without reading from it."""
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 7  # TCP_CLOSE


async def ordinary(r: RouterProcess) -> tuple[bytes, float]:
    """The status line of one request, and how long it took."""
    began_s = time.monotonic()
    reader, writer = await asyncio.open_connection(*r.listen.split(":"))
    writer.write(request())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    writer.close()
    return head.partition(b"\r\n")[0], time.monotonic() - began_s


async def test_a_client_that_takes_nothing_is_cut_off_and_one_that_takes_little_is_not() -> None:
    head = OPEN + "[timeouts]\nclient_stall = 1.5\n"
    async with ScriptedBackend(engine) as b, RouterProcess([Site("near", "a", b.url)], head=head) as r:
        silent, slow = deaf(r), deaf(r)
        end_s = time.monotonic() + 30
        while not cut_off(silent) and time.monotonic() < end_s:
            await asyncio.sleep(0.1)
            try:
                assert slow.recv(4096), "one that reads, however slowly, stays"
            except BlockingIOError:
                pass
        assert cut_off(silent)
        for _ in range(20):
            await asyncio.sleep(0.1)
            assert not cut_off(slow)
            slow.recv(4096)
        silent.close()
        slow.close()


async def test_deaf_clients_leave_places_to_others() -> None:
    site = Site("near", "a", "", extra=f"max_inflight = {PLACES}")
    async with ScriptedBackend(engine) as b:
        site.url = b.url
        async with RouterProcess([site], head=OPEN, command=("-m", "router")) as r:
            crowd = [deaf(r) for _ in range(PLACES * 3)]
            await asyncio.sleep(1)
            answers = await asyncio.gather(*(ordinary(r) for _ in range(20)))
            assert all(b" 200 " in status for status, _ in answers), answers
            assert max(took_s for _, took_s in answers) < 20, "long before client_stall, for which each would hold on"
            left = [client for client in crowd if not cut_off(client)]
            assert 0 < len(left) < PLACES, "and without cutting off more than is needed"
            for client in crowd:
                client.close()
