"""Backends that do exactly what a test says, over real sockets, and remember what they were sent and when it broke off."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import orjson

SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def event(text: str | None, finish: str | None = None, **extra: object) -> bytes:
    delta = {} if text is None else {"content": text}
    document = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **extra,
    }
    return b"data: " + orjson.dumps(document) + b"\n\n"


ROLE = b'data: {"id":"c1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(status: int, document: object, *, headers: bytes = b"", reason: bytes = b"X") -> bytes:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        reason,
        headers,
        len(body),
        body,
    )


def answer(text: str = "hello", tokens: int = 5) -> bytes:
    """A whole chat completion."""
    return whole(
        200,
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens},
        },
    )


@dataclass
class Call:
    """One request as the backend saw it."""

    head: bytes
    body: bytes
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    at_s: float = field(default_factory=time.monotonic)
    gone_s: float | None = None  # when the router broke it off

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
        await self.writer.drain()

    async def stream(self, *texts: str, gap_s: float = 0.0, finish: bool = True) -> None:
        """A well-formed stream, or the beginning of one."""
        await self.send(SSE_HEAD, chunk(ROLE))
        for text in texts:
            await self.send(chunk(event(text)))
            if gap_s:
                await asyncio.sleep(gap_s)
        if finish:
            await self.send(chunk(event(None, "stop")), chunk(DONE), b"0\r\n\r\n")

    async def until_gone(self, timeout_s: float = 30.0) -> float:
        """Wait until the router has closed the connection. Returns the seconds from the request to that moment."""
        async with asyncio.timeout(timeout_s):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
        self.gone_s = time.monotonic()
        return self.gone_s - self.at_s

    def reset(self) -> None:
        """End the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


Behaviour = Callable[[Call], Awaitable[None]]


async def say_hello(call: Call) -> None:
    if b'"stream":true' in call.body.replace(b" ", b""):
        await call.stream("hel", "lo")
    else:
        await call.send(answer())


class ScriptedBackend:
    """``async with ScriptedBackend(behaviour) as b``: probes are answered well, all else by ``behaviour``."""

    def __init__(self, behaviour: Behaviour = say_hello, *, model: str = "m") -> None:
        self.behaviour = behaviour
        self.model = model
        self.calls: list[Call] = []
        self._arrival = asyncio.Event()
        self.healthy = True
        #: the answer of an engine that can sleep; None: it was not started with that path
        self.sleeps: Callable[[], bool | None] = lambda: None
        self.sick_turns = 0  # probes that are yet to find it unhealthy
        self.metrics = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0\n"
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.host, self.port = "127.0.0.1", 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def called(self, count: int) -> None:
        """Wait until it has got so many requests."""
        while len(self.calls) < count:
            self._arrival.clear()
            await self._arrival.wait()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Like a killed process: nobody listens, every connection is reset."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET") and not head.startswith(b"GET /v1/responses/"):
            await self._get(head, writer)
            return True
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        call = Call(head, await reader.readexactly(size), writer, reader)
        self.calls.append(call)
        self._arrival.set()
        await self.behaviour(call)
        return not writer.is_closing()

    async def _get(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        path = head.split(b" ")[1]
        if path == b"/metrics":
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b"
                % (len(self.metrics), self.metrics)
            )
        elif path == b"/is_sleeping":
            told = self.sleeps()
            writer.write(whole(404, {}) if told is None else whole(200, {"is_sleeping": told}))
        elif path == b"/v1/models":
            writer.write(whole(200, {"object": "list", "data": [{"id": self.model, "object": "model"}]}))
        else:
            writer.write(whole(200 if self.healthy and not self.sick_turns else 503, {}))
            self.sick_turns -= self.sick_turns > 0
        await writer.drain()
