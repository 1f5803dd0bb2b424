"""A collector of traces as OTLP has it: takes POST /v1/traces, decodes the protobuf, and answers as a test says."""

from __future__ import annotations

import asyncio
import gzip
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

#: Answers: a status, headers and a body for the n-th request.
Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[int], Answer]


@dataclass
class CollectedSpan:
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    status: int
    message: str
    trace_state: str
    flags: int


@dataclass
class Received:
    """One request as it came."""

    headers: dict[str, str]
    body: bytes
    resource: dict[str, Any]
    scope: tuple[str, str]
    spans: list[CollectedSpan]


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: numbers of varints, bytes of everything else."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        wire = key & 7
        if wire == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(wire)
        if size is None:
            assert wire == 2, f"wire type {wire}"
            size = varint()
        assert at + size <= len(data), "cut off"
        yield key >> 3, data[at : at + size]
        at += size


def _one(data: bytes, number: int, default: Any = b"") -> Any:
    return next((value for n, value in fields(data) if n == number), default)


def value_of(data: bytes) -> Any:
    """An AnyValue of opentelemetry/proto/common/v1/common.proto."""
    ((number, value),) = fields(data)
    if number == 1:
        return value.decode()
    if number == 2:
        return bool(value)
    if number == 3:
        return value - 2**64 if value >= 2**63 else value
    if number == 4:
        return struct.unpack("<d", value)[0]
    assert number == 5, f"a value of kind {number}"
    return [value_of(inner) for n, inner in fields(value) if n == 1]


def attributes_of(data: bytes, number: int) -> dict[str, Any]:
    pairs = [value for n, value in fields(data) if n == number]
    found = {_one(pair, 1).decode(): value_of(_one(pair, 2)) for pair in pairs}
    assert len(found) == len(pairs), "an attribute is there twice"
    return found


def span_of(data: bytes) -> CollectedSpan:
    """A Span of opentelemetry/proto/trace/v1/trace.proto."""
    status = _one(data, 15)
    return CollectedSpan(
        trace_id=_one(data, 1).hex(),
        span_id=_one(data, 2).hex(),
        parent_id=_one(data, 4).hex(),
        name=_one(data, 5).decode(),
        kind=_one(data, 6, 0),
        start_ns=struct.unpack("<Q", _one(data, 7))[0],
        end_ns=struct.unpack("<Q", _one(data, 8))[0],
        attributes=attributes_of(data, 9),
        status=_one(status, 3, 0),
        message=_one(status, 2).decode(),
        trace_state=_one(data, 3).decode(),
        flags=struct.unpack("<I", _one(data, 16, bytes(4)))[0],
    )


def read(body: bytes) -> tuple[dict[str, Any], tuple[str, str], list[CollectedSpan]]:
    """Resource, scope and spans of an ExportTraceServiceRequest."""
    resource_spans = _one(body, 1)
    scope_spans = _one(resource_spans, 2)
    scope = _one(scope_spans, 1)
    spans = [span_of(value) for n, value in fields(scope_spans) if n == 2]
    return attributes_of(_one(resource_spans, 1), 1), (_one(scope, 1).decode(), _one(scope, 2).decode()), spans


def took_it(_: int) -> Answer:
    return 200, {"Content-Type": "application/x-protobuf"}, b""


@dataclass
class Collector:
    """``async with Collector(script) as c``: ``c.url`` is its endpoint, ``c.spans`` what it has taken."""

    script: Script = took_it
    received: list[Received] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def spans(self) -> list[CollectedSpan]:
        return [span for one in self.received for span in one.spans]

    async def until(self, there: Callable[[Collector], bool], *, timeout_s: float = 20.0) -> None:
        """Wait until what was received is as ``there`` wants it."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: there(self))

    async def _take(self, request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == "application/x-protobuf"
        body = await request.read()  # aiohttp undoes gzip
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        status, headers, answer = self.script(len(self.received))
        async with self._news:
            resource, scope, spans = read(body)
            taken = spans if status == 200 else []
            self.received.append(Received(dict(request.headers), body, resource, scope, taken))
            self._news.notify_all()
        return web.Response(status=status, headers=headers, body=answer)
