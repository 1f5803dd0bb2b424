"""wire/inbound.py over real sockets: strictness, order, limits, and what a connection may cost."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from router import clock
from router.config import Config
from router.gateway.server import limits_of
from router.wire.gate import Gate
from router.wire.inbound import Inbound, InboundRequest
from tests.support.raw import statuses, talk
from tests.support.stopwatch import Stopwatch

LIMITS = replace(
    limits_of(Config()),
    head_bytes=4096,
    headers=20,
    body_bytes=10_000,
    buffered_bytes=15_000,
    head_timeout_s=0.3,
    body_timeout_s=0.4,
    idle_timeout_s=0.5,
    linger_timeout_s=0.3,
)


class Echo:
    """Answers each request with what it understood."""

    def __init__(self) -> None:
        self.seen: list[InboundRequest] = []
        self.refused: list[str] = []
        self.lost_count = 0
        self.hold = False

    def begin(self, connection: Inbound, request: InboundRequest) -> None:
        self.seen.append(request)
        if self.hold:
            return
        body = orjson.dumps([request.method.decode(), request.target.decode("latin-1"), request.body.decode("latin-1")])
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        connection.finish(request.keep_alive)

    def refuse(self, connection: Inbound, code: str, detail: str) -> None:
        self.refused.append(code)
        connection.write(b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    def lost(self, connection: Inbound) -> None:
        self.lost_count += 1

    def writable(self, connection: Inbound, ready: bool) -> None:
        pass


class Rig:
    def __init__(self) -> None:
        self.echo = Echo()
        self.gate = Gate(LIMITS, clock.monotonic_s)
        self.address = ("127.0.0.1", 0)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    server = await asyncio.get_running_loop().create_server(lambda: Inbound(rig.gate, rig.echo), "127.0.0.1", 0)
    rig.address = server.sockets[0].getsockname()

    async def sweep() -> None:
        while True:
            await asyncio.sleep(0.05)
            rig.gate.sweep()

    sweeper = asyncio.get_running_loop().create_task(sweep())
    yield rig
    sweeper.cancel()
    server.close()
    for connection in list(rig.gate.connections):
        connection.abort()
    await asyncio.sleep(0.01)
    assert not rig.gate.connections
    assert rig.gate.buffered_bytes == 0
    for waiting in (
        rig.gate.heads,
        rig.gate.bodies,
        rig.gate.paces,
        rig.gate.idle,
        rig.gate.lingering,
        rig.gate.stalled,
    ):
        assert not waiting


HOST = b"host: a\r\n"

ACCEPTED: dict[str, tuple[bytes, list[bytes]]] = {
    "get": (b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n", [b""]),
    "http 1.0 without host": (b"GET /x HTTP/1.0\r\n\r\n", [b""]),
    "body by length": (b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 5\r\n\r\nhello", [b"hello"]),
    "chunked": (
        b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        [b"hello"],
    ),
    "trailers are dropped": (
        b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-a: b\r\n\r\n",
        [b"x"],
    ),
    "an empty line before it": (b"\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", [b""]),
    "pipelined": ((b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1\r\n\r\nx") * 5, [b"x"] * 5),
    "pipelined after chunked": (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n"
        + HOST
        + b"\r\n",
        [b"", b""],
    ),
    "upgrade is ignored": (
        b"GET / HTTP/1.1\r\n"
        + HOST
        + b"connection: upgrade\r\nupgrade: h2c\r\n\r\nGET / HTTP/1.1\r\n"
        + HOST
        + b"\r\n",
        [b"", b""],
    ),
    "upgrade with a body": (
        b"POST / HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi"
        b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
        [b"hi", b""],
    ),
    "close ends it": (
        b"GET / HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
        [b""],
    ),
    "absolute form": (b"GET http://a/x HTTP/1.1\r\n" + HOST + b"\r\n", [b""]),
}

REFUSED: dict[str, bytes] = {
    "http 0.9": b"GET /\r\n\r\n",
    "http 2": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "http 1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "lower case version": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "lower case method": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "bad host": b"GET / HTTP/1.1\r\nhost: a/b@c\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"x : y\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\n" + HOST + b"x: y\r\n z\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nhost: a\n\n",
    "one bare line feed": b"GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
    "bare carriage return": b"GET / HTTP/1.1\r\nhost: a\r\nx: y\rz\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n",
    "nul in the name": b"GET / HTTP/1.1\r\nhost: a\r\nx\0: y\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nhost: a\r\nxy\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
    "tab in the request line": b"GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx",
    "length list": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1, 1\r\n\r\nx",
    "signed length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: +1\r\n\r\nx",
    "negative length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: -1\r\n\r\nx",
    "hex length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 0x1\r\n\r\nx",
    "underscored length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1_0\r\n\r\nx",
    "empty length": b"POST / HTTP/1.1\r\n" + HOST + b"content-length:\r\n\r\nx",
    "length and chunked": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "two encodings": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n",
    "encoding list": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "encoding with a tab": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "unknown encoding": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in http 1.0": b"POST / HTTP/1.0\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size with 0x": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    "chunk with a bare line feed": b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1\nx\n0\n\n",
    "unknown expectation": b"POST / HTTP/1.1\r\n" + HOST + b"expect: wonders\r\ncontent-length: 1\r\n\r\nx",
    "head too large": b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 5000 + b"\r\n\r\n",
    "endless head": b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 5000,
    "too many headers": b"GET / HTTP/1.1\r\n" + HOST + b"x: y\r\n" * 25 + b"\r\n",
    "body too large": b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 10001\r\n\r\n",
    "chunked body too large": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"transfer-encoding: chunked\r\n\r\n2711\r\n"
    + b"x" * 10001,
    "tls hello": bytes.fromhex("16030100a5010000a10303") + b"\0" * 100,
}


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("step", [0, 1, 7])
async def test_strict_requests_are_understood_at_any_split(rig: Rig, name: str, step: int) -> None:
    data, bodies = ACCEPTED[name]
    pieces = [data[i : i + step] for i in range(0, len(data), step)] if step else [data]
    answers = await talk(rig.address, *pieces, timeout_s=0.15)
    assert [r.body for r in rig.echo.seen] == bodies
    assert statuses(answers) == [200] * len(bodies)
    assert rig.echo.refused == []


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_doubtful_is_refused_and_the_connection_ends(rig: Rig, name: str) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    answers = await talk(rig.address, REFUSED[name] + smuggled, timeout_s=1.0)
    assert statuses(answers) == [400]
    assert len(rig.echo.refused) == 1
    assert [r for r in rig.echo.seen if r.target == b"/smuggled"] == []


async def test_too_large_a_body_is_refused_before_100_continue(rig: Rig) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n"
    assert statuses(await talk(rig.address, head % 10_001, timeout_s=0.5)) == [400]
    assert rig.echo.refused == ["body_too_large"]


async def test_100_continue(rig: Rig) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    assert statuses(await talk(rig.address, head, b"hello", pause_s=0.1, timeout_s=0.2)) == [100, 200]
    assert rig.echo.seen[0].body == b"hello"


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([b"GET / HTTP/1.1\r\n", *[b"x: y\r\n"] * 8], [400]),
        ([b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 50\r\n\r\n", *[b"x"] * 8], [400]),
        ([b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 8], [400]),
        ([b""], []),
    ],
    ids=["head", "body", "chunks", "silence"],
)
async def test_a_slow_request_is_cut_however_it_drips(rig: Rig, pieces: list[bytes], answer: list[int]) -> None:
    watch = Stopwatch()
    answers = await talk(rig.address, *pieces, pause_s=0.1, timeout_s=1.5)
    assert statuses(answers) == answer
    assert watch.elapsed_s < 1.4
    assert rig.echo.seen == []


async def test_empty_lines_do_not_hold_a_connection(rig: Rig) -> None:
    began = asyncio.get_running_loop().time()
    answers = await talk(
        rig.address, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", *[b"\r", b"\n"] * 10, pause_s=0.1, timeout_s=1.5
    )
    assert statuses(answers) in ([200], [200, 400])
    assert asyncio.get_running_loop().time() - began < 1.4


async def test_a_body_must_keep_its_pace(rig: Rig) -> None:
    rig.gate.limits = replace(LIMITS, body_timeout_s=60.0, pace_s=1.0, pace_bytes=100)
    head = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1000\r\n\r\n"
    began = asyncio.get_running_loop().time()
    fast = await talk(rig.address, head, *[b"x" * 100] * 10, pause_s=0.3, timeout_s=0.3)
    assert statuses(fast) == [200]
    assert asyncio.get_running_loop().time() - began > 2.5
    began = asyncio.get_running_loop().time()
    assert statuses(await talk(rig.address, head, *[b"x"] * 200, pause_s=0.1, timeout_s=1.5)) == [400]
    assert asyncio.get_running_loop().time() - began < 10.0


async def test_a_client_that_does_not_read_its_last_answer_is_cut_off(rig: Rig) -> None:
    """Also when so little is left to write that writing was never paused."""
    rig.gate.limits = replace(LIMITS, write_high_bytes=64 * 1024 * 1024, stall_s=0.3)
    _, writer = await asyncio.open_connection(*rig.address, limit=1024)
    rig.echo.hold = True
    writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    while not rig.echo.seen:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    (connection,) = rig.gate.connections
    connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n" + b"x" * 20_000_000)
    connection.finish(keep_alive=False)
    assert not connection.paused
    async with asyncio.timeout(3):
        while rig.gate.connections:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
    writer.transport.abort()


async def test_a_request_that_has_come_meanwhile_is_not_cut_off(rig: Rig) -> None:
    """The loop was held up: when it looks at the clock, a request stands in the socket unread."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(rig.address) as client:
        client.setblocking(False)
        request = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
        await loop.sock_sendall(client, request)
        assert statuses(await loop.sock_recv(client, 4096)) == [200]
        client.send(request)
        time.sleep(LIMITS.idle_timeout_s + 0.1)  # noqa: ASYNC251 - holds up the loop
        rig.gate.sweep()
        assert statuses(await loop.sock_recv(client, 4096)) == [200]


async def test_a_first_request_that_has_come_meanwhile_is_not_cut_off(rig: Rig) -> None:
    """A client that connected early and asks in the moment in which its patience with it is over."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(rig.address) as client:
        client.setblocking(False)
        while not rig.gate.connections:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        time.sleep(LIMITS.head_timeout_s + 0.1)  # noqa: ASYNC251 - holds up the loop
        rig.gate.sweep()
        assert statuses(await loop.sock_recv(client, 4096)) == [200]


async def test_an_idle_connection_is_closed(rig: Rig) -> None:
    began, watch = asyncio.get_running_loop().time(), Stopwatch()
    await talk(rig.address, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", timeout_s=2.0)
    assert asyncio.get_running_loop().time() - began > 0.4
    assert watch.elapsed_s < 1.0


async def test_bodies_share_one_budget(rig: Rig) -> None:
    begun = b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 9000\r\n\r\n" + b"x" * 8000
    first = asyncio.get_running_loop().create_task(talk(rig.address, begun, timeout_s=0.3))
    await asyncio.sleep(0.05)
    await talk(rig.address, begun, timeout_s=0.3)
    await first
    assert rig.echo.refused[0] == "admission_full"


async def test_leaving_is_noticed_while_an_answer_is_made(rig: Rig) -> None:
    rig.echo.hold = True
    _, writer = await asyncio.open_connection(*rig.address)
    writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 1\r\n\r\nx")
    await asyncio.sleep(0.05)
    assert len(rig.echo.seen) == 1
    writer.close()
    await asyncio.sleep(0.05)
    assert rig.echo.lost_count == 1


async def test_a_flood_behind_a_held_request_is_not_buffered(rig: Rig) -> None:
    rig.echo.hold = True
    _, writer = await asyncio.open_connection(*rig.address)
    writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    await asyncio.sleep(0.05)
    writer.write(b"x" * 8_000_000)
    await asyncio.sleep(0.1)
    (connection,) = rig.gate.connections
    assert len(connection._buffer) <= 64 * 1024 + 256 * 1024
    writer.transport.abort()


async def test_more_connections_than_allowed_are_dropped(rig: Rig) -> None:
    rig.gate.limits = replace(LIMITS, connections=2)
    keep = [await asyncio.open_connection(*rig.address) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert await talk(rig.address, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", timeout_s=0.5) == b""
    for _, writer in keep:
        writer.close()
