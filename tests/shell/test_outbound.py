"""wire/outbound.py against backends that answer raw bytes: what is whole, what is broken, and what is never reused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from router.wire.outbound import HEAD_LIMIT_BYTES, Headers, Outbound


class Collect:
    """A sink that notes what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers = Headers()
        self.body = b""
        self.end: str | None = None
        self.done = asyncio.Event()

    def on_head(self, status: int, headers: Headers) -> None:
        assert self.status == 0, "one head per answer"
        self.status, self.headers = status, headers

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        assert self.end is None
        self.body += data

    def on_end(self, *, framed: bool) -> None:
        assert self.end is None
        self.end = "framed" if framed else "closed"
        self.done.set()

    def on_fail(self, reason: str, *, answered: bool) -> None:
        assert self.end is None
        self.end = f"{reason} {'answered' if answered else 'silent'}"
        self.done.set()


class Backend:
    """Answers every request with the same bytes, cut into ``step`` bytes; closes after it if told so."""

    def __init__(self) -> None:
        self.answer = b""
        self.step = 0
        self.close = False
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while await reader.read(65536):
            step = self.step or max(len(self.answer), 1)
            for i in range(0, len(self.answer), step):
                writer.write(self.answer[i : i + step])
                await writer.drain()
                if self.step:
                    await asyncio.sleep(0.0005)
            if self.close:
                break
        writer.close()


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    backend.port = server.sockets[0].getsockname()[1]
    yield backend
    server.close()
    for writer in backend.writers:
        writer.transport.abort()
    await asyncio.sleep(0.01)


async def ask(backend: Backend, times: int = 1) -> tuple[Collect, Outbound, list[Outbound]]:
    idle: list[Outbound] = []
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Outbound(idle.append, lambda c: None), "127.0.0.1", backend.port
    )
    for _ in range(times):
        sink = Collect()
        connection.send((b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",), sink)
        async with asyncio.timeout(30):
            await sink.done.wait()
    return sink, connection, idle


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"

WHOLE = {
    "length": (HEAD + b"content-length: 3\r\n\r\nabc", 200, b"abc"),
    "chunked": (CHUNKED, 200, b"abcde"),
    "chunk extensions and trailers": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
        200,
        b"abc",
    ),
    "interim answers first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + CHUNKED,
        200,
        b"abcde",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "error": (b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy", 503, b"busy"),
    "empty header value": (b"HTTP/1.1 200 OK\r\naccess-control-allow-origin:\r\ncontent-length: 1\r\n\r\nx", 200, b"x"),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("step", [0, 1, 5])
async def test_whole_answers_at_any_split_and_the_connection_goes_on(backend: Backend, name: str, step: int) -> None:
    backend.answer, status, body = WHOLE[name]
    backend.step = step
    sink, connection, idle = await ask(backend, times=3)
    assert (sink.status, sink.body, sink.end) == (status, body, "framed")
    assert idle == [connection] * 3
    assert connection.served == 3
    connection.abort()


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x00\xa5",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (HEAD_LIMIT_BYTES * 2),
        b"HTTP/1.1 200 OK\r\nbad header\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_hostile_answers_end_the_connection(backend: Backend, answer: bytes) -> None:
    backend.answer = answer
    sink, connection, idle = await ask(backend)
    assert sink.end == "protocol answered"
    assert idle == []
    assert not connection.usable


@pytest.mark.parametrize(
    ("answer", "end", "body"),
    [
        (b"", "lost silent", b""),
        (b"HTTP/1.1 200", "lost answered", b""),
        (HEAD + b"content-length: 10\r\n\r\nabc", "lost answered", b"abc"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "lost answered", b"abc"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nab", "lost answered", b"ab"),
        (HEAD + b"\r\nabc", "closed", b"abc"),
    ],
)
async def test_a_cut_is_never_taken_for_an_end(backend: Backend, answer: bytes, end: str, body: bytes) -> None:
    backend.answer, backend.close = answer, True
    sink, connection, idle = await ask(backend)
    assert (sink.end, sink.body) == (end, body)
    assert idle == []
    assert not connection.usable


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"connection: close\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        HEAD + b"content-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    ],
    ids=["close", "http 1.0", "a second answer nobody asked for"],
)
async def test_a_connection_in_doubt_is_not_used_again(backend: Backend, answer: bytes) -> None:
    backend.answer = answer
    sink, connection, idle = await ask(backend)
    assert (sink.body, sink.end) == (b"abc", "framed")
    assert idle == []
    assert not connection.usable
    connection.abort()


async def test_an_answer_before_the_request_is_nobodys() -> None:
    connected = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 4\r\n\r\nevil")
        await connected.wait()
        writer.close()

    lost = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: Outbound(lambda c: None, lambda c: lost.set()), "127.0.0.1", port
    )
    async with asyncio.timeout(3):
        await lost.wait()
    assert not connection.usable
    connected.set()
    server.close()


async def test_an_answer_that_overtakes_its_request_ends_the_connection() -> None:
    """The rest of the request would be read as the next one."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too large\r\ncontent-length: 2\r\n\r\n{}")
        await left.wait()
        writer.transport.abort()

    left = asyncio.Event()
    idle: list[Outbound] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    port = server.sockets[0].getsockname()[1]
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: Outbound(idle.append, lambda c: None), "127.0.0.1", port
    )
    sink = Collect()
    connection.send((b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n", b"x" * 20_000_000), sink)
    async with asyncio.timeout(3):
        await sink.done.wait()
    assert (sink.status, sink.end) == (413, "framed")
    assert idle == []
    assert not connection.usable
    left.set()
    connection.abort()
    server.close()


async def test_bytes_on_an_idle_connection_end_it(backend: Backend) -> None:
    backend.answer = HEAD + b"content-length: 3\r\n\r\nabc"
    _, connection, idle = await ask(backend)
    assert idle == [connection]
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    assert not connection.usable
    await asyncio.sleep(0.01)


async def test_a_connection_that_was_closed_before_it_is_used_says_so(backend: Backend) -> None:
    """It did raise what nobody expected: the client got a 500 instead of another backend's answer."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Outbound(lambda c: None, lambda c: None), "127.0.0.1", backend.port
    )
    connection.transport.abort()
    await asyncio.sleep(0.01)
    with pytest.raises(ConnectionResetError):
        connection.send((b"POST / HTTP/1.1\r\n\r\n",), Collect())
