"""Functions that take any bytes and must neither fail nor depend on how the bytes were cut into pieces.

Run by ``make fuzz`` with bytes that reach new code, by test_seeds.py with the ones found, by test_differential.py with
generated messages.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import msgspec

from router.config import Config, TokensSection
from router.config.loader import parse
from router.core.sse import StreamKind, StreamWatch
from router.core.usage import usage_at_end
from router.errors import ConfigError, RouterError
from router.gateway import ingress
from router.gateway.aliases import edited, model_spans
from router.gateway.envelope import envelope_of
from router.gateway.members import MalformedError
from router.gateway.responses import passed_of
from router.gateway.server import limits_of
from router.observe.exposition import find_samples
from router.wire.chunked import ChunkedDecoder, ChunkedError
from router.wire.gate import Gate
from router.wire.head import Headers, RequestHead
from router.wire.inbound import Inbound, InboundRequest
from router.wire.outbound import Outbound
from tests.support.transports import DeadEnd

LIMITS = replace(limits_of(Config()), head_bytes=2048, headers=20, body_bytes=4096, buffered_bytes=8192)


def pieces(data: bytes) -> list[bytes]:
    """A way to cut the bytes that depends on the bytes alone: single ones first, then longer ones."""
    step, out, at = 1 + sum(data) % 7, [], 0
    while at < len(data):
        size = 1 if at < 64 else step
        out.append(data[at : at + size])
        at += size
    return out


def few_pieces(data: bytes) -> list[bytes]:
    """Another way, many times as quick: a dozen cuts at places that follow from the bytes, half of them beside the ends
    of lines. Which cuts matter the fuzzer finds out by altering the bytes."""
    rng, ends = zlib.crc32(data), [at for at, byte in enumerate(data) if byte in b"\r\n"]
    cuts = set()
    for number in range(12):
        rng = rng * 1664525 + 1013904223 & 0xFFFFFFFF
        place = rng >> 8
        cuts.add(ends[place % len(ends)] + place // 8 % 3 if ends and number % 2 else place % (len(data) + 1))
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places) if a < b]


Cutter = Callable[[bytes], list[bytes]]

# requests


@dataclass
class Requests:
    """A handler that answers at once and notes what it understood."""

    seen: list[tuple[bytes, bytes, dict[bytes, bytes], bytes]] = field(default_factory=list)
    refused: str | None = None

    def begin(self, connection: Inbound, request: InboundRequest) -> None:
        self.seen.append((request.method, request.target, request.headers, request.body))
        envelope_of(request.head)
        connection.finish(request.keep_alive)

    def refuse(self, connection: Inbound, code: str, detail: str) -> None:
        assert self.refused is None
        self.refused = RouterError(code, detail).code

    def lost(self, connection: Inbound) -> None:
        raise AssertionError("every request was answered")

    def writable(self, connection: Inbound, ready: bool) -> None:
        raise AssertionError("nothing was written")


def read_requests(parts: list[bytes]) -> Requests:
    gate, out, transport = Gate(LIMITS, lambda: 0.0), Requests(), DeadEnd()
    connection = Inbound(gate, out)
    connection.connection_made(cast(Any, transport))
    for part in parts:
        if transport.closed:
            break
        connection.data_received(part)
        held = len(connection._buffer)
        assert held <= LIMITS.head_bytes + len(part), "more is held than a head"
        assert 0 <= gate.buffered_bytes <= LIMITS.buffered_bytes
    connection.connection_lost(None)
    assert gate.buffered_bytes == 0
    assert not gate.connections
    assert not any((gate.heads, gate.bodies, gate.paces, gate.idle, gate.lingering, gate.stalled))
    return out


def inbound(data: bytes, cut: Cutter = pieces) -> None:
    whole, split = read_requests([data]), read_requests(cut(data))
    assert whole.seen == split.seen
    assert (whole.refused is None) is (split.refused is None)


# answers


class Answer:
    """A sink that notes what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers = Headers()
        self.body = b""
        self.end: str | None = None

    def on_head(self, status: int, headers: Headers) -> None:
        assert self.status == 0
        self.status, self.headers = status, headers
        assert b"\n" not in passed_of(headers).lines.replace(b"\r\n", b"")

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        assert self.end is None
        assert data
        assert framed is None or framed == b"%x\r\n%b\r\n" % (len(data), data)
        self.body += data

    def on_end(self, *, framed: bool) -> None:
        assert self.end is None
        self.end = "framed" if framed else "closed"

    def on_fail(self, reason: str, *, answered: bool) -> None:
        assert self.end is None
        self.end = reason


def read_answer(parts: list[bytes]) -> tuple[Answer, bool]:
    """The answer, and whether the connection would be used again."""
    transport, sink, idle = DeadEnd(), Answer(), list[Outbound]()
    connection = Outbound(idle.append, lambda c: None)
    connection.connection_made(cast(Any, transport))
    connection.send((b"",), sink)
    for part in parts:
        if transport.closed:
            break
        connection.data_received(part)
    kept = bool(idle) and connection.usable
    connection.connection_lost(None)
    assert sink.end is not None
    return sink, kept


def answer(data: bytes, cut: Cutter = pieces) -> None:
    whole, _ = read_answer([data])
    split, _ = read_answer(cut(data))
    assert (whole.status, whole.headers, whole.body, whole.end) == (split.status, split.headers, split.body, split.end)


# bodies


def read_chunks(parts: list[bytes]) -> tuple[bytes, bytes] | str | None:
    """The body and what follows it; the word "refused"; None if it is not whole."""
    decoder, rest = ChunkedDecoder(), list(parts)
    try:
        while rest and not decoder.done:
            decoder.feed(rest.pop(0))
            while decoder.stopped and not decoder.done:
                decoder.feed(decoder.take_rest())
    except ChunkedError:
        return "refused"
    return (bytes(decoder.body), decoder.take_rest() + b"".join(rest)) if decoder.done else None


def chunked(data: bytes, cut: Cutter = pieces) -> None:
    assert read_chunks([data]) == read_chunks(cut(data))


def sse(data: bytes, cut: Cutter = pieces, kinds: Collection[StreamKind] = tuple(StreamKind)) -> None:
    for kind in kinds:
        results = []
        for parts in ([data], cut(data)):
            watch = StreamWatch(kind)
            out = b"".join([watch.feed(part) for part in parts]) + watch.flush()
            assert watch.usage.output_tokens >= 0
            assert data.startswith(out)
            assert watch.error is not None or out == data
            # Empty lines before an error may be dropped with it: they carry nothing.
            seen = out if watch.error is None else dispatched(out)
            results.append((seen, watch.error, watch.started, watch.complete(framed=False)))
        assert results[0] == results[1]


def dispatched(data: bytes) -> list[bytes]:
    """The events that a reader gets to see (WHATWG, server-sent events)."""
    *events, _unfinished = re.split(rb"(?:\r\n|\n|\r(?!\n)){2,}", b"\n\n" + data)
    return [event for event in events if event.strip(b"\r\n")]


def usage(data: bytes) -> None:
    found = usage_at_end(data)
    assert found is None or (found.prompt_tokens >= 0 and found.output_tokens >= 0)


_ENVELOPES = [
    envelope_of(RequestHead(b"POST", b"/v1/x", True, {b"content-type": kind}, keep_alive=True))
    for kind in (b"application/json", b"multipart/form-data; boundary=x")
]


def asks(data: bytes) -> None:
    for envelope in _ENVELOPES:
        try:
            ask = ingress.read(envelope, data, TokensSection())
        except RouterError as error:
            if error.code != "invalid_request":
                raise
        else:
            assert ask.model
            assert ask.choices >= 1
            assert ask.max_tokens is None or ask.max_tokens > 0


def _pairs(data: bytes) -> Any:
    """JSON with its duplicates and with numbers as they were written."""
    return json.loads(data, object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=str)


def model_rewritten(data: bytes) -> None:
    try:
        out = b"".join(edited(data, [(begin, end, b'"new"') for begin, end in model_spans(data)]))
    except MalformedError:
        out = data
    try:
        peek = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        before = _pairs(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    if "model" in peek and bytes(peek["model"]).lstrip().startswith(b'"'):
        assert _pairs(out) == tuple(
            (name, "new" if name == "model" and isinstance(value, str) and not _number(data, value) else value)
            for name, value in before
        )
        assert json.loads(out)["model"] == "new"


def _number(data: bytes, value: str) -> bool:
    return value[:1] in "-0123456789NI" and b'"model"' in data and json.dumps(value).encode() not in data


def one_sse(data: bytes) -> None:
    """One kind of stream, by the bytes."""
    kinds = tuple(StreamKind)
    sse(data, few_pieces, (kinds[zlib.crc32(data) % len(kinds)],))


# files


def exposition(data: bytes) -> None:
    for sample in find_samples(data, "vllm:num_requests_running"):
        assert math.isfinite(sample.value)


def config(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    with suppress(ConfigError):
        parse(text, "x.toml", env={}, secrets=False)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "inbound": inbound,
    "answer": answer,
    "chunked": chunked,
    "sse": sse,
    "usage": usage,
    "asks": asks,
    "model": model_rewritten,
    "exposition": exposition,
    "config": config,
}
#: the same for the fuzzer, where executions count
QUICK = TARGETS | {
    "inbound": partial(inbound, cut=few_pieces),
    "answer": partial(answer, cut=few_pieces),
    "chunked": partial(chunked, cut=few_pieces),
    "sse": one_sse,
}
