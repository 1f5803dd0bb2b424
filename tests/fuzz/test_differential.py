"""Generated messages through our reader and through those of aiohttp and h11.

Whoever accepts what we accept must see the same message and the same beginning of the next one. Where they disagree
with us, we are the stricter one: what both of them refuse, we refuse.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h11
import pytest
from aiohttp import http_exceptions
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, HttpResponseParser
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import pieces, read_answer, read_requests
from tests.support import corpus
from tests.support.effort import examples

#: method or status, target, headers, body
Message = tuple[bytes, bytes, frozenset[tuple[bytes, bytes]], bytes]

_NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"


@dataclass
class Reading:
    """The messages that a reader found, and whether it then refused to go on."""

    messages: list[Message]
    refused: bool


SINGLE = (b"authorization", b"content-type", b"x-api-key", b"api-key")


def joined(headers: Any) -> frozenset[tuple[bytes, bytes]]:
    out: dict[bytes, bytes] = {}
    for name, value in headers:
        name, value = bytes(name).lower(), bytes(value).strip(b" \t")
        if name == b"transfer-encoding":
            value = value.lower()  # as h11 does
        if name in SINGLE and out.get(name) == value:
            continue  # the router takes the same line twice as one
        out[name] = out[name] + b", " + value if name in out else value
    return frozenset((name, value.strip(b" \t")) for name, value in out.items())


# requests


def ours(data: bytes) -> Reading:
    found = read_requests([data])
    split = read_requests(pieces(data))
    assert found.seen == split.seen
    return Reading([(m, t, joined(h.items()), b) for m, t, h, b in found.seen], found.refused is not None)


def with_h11(data: bytes) -> Reading:
    connection, messages = h11.Connection(h11.SERVER, max_incomplete_event_size=4096), []
    try:
        connection.receive_data(data)
        while isinstance(head := connection.next_event(), h11.Request):
            body = b""
            while isinstance(event := connection.next_event(), h11.Data):
                body += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                break
            messages.append((head.method, head.target, joined(head.headers), body))
            connection.send(h11.Response(status_code=400, headers=[(b"content-length", b"0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is h11.MUST_CLOSE:
                break
            connection.start_next_cycle()
    except h11.RemoteProtocolError:
        return Reading(messages, refused=True)
    return Reading(messages, refused=False)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class _Transport:
    """aiohttp's stream readers pause and resume something."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return False


def with_aiohttp(data: bytes, loop: asyncio.AbstractEventLoop) -> Reading:
    protocol = BaseProtocol(loop)
    protocol.transport = _Transport()  # type: ignore[assignment]
    parser = HttpRequestParser(protocol, loop, 2**20, max_line_size=2048, max_field_size=2048, max_headers=20)
    try:
        found, upgraded, _ = parser.feed_data(data)
    except http_exceptions.BadHttpMessage:
        return Reading([], refused=True)
    messages = []
    for head, payload in found:
        if upgraded or not payload.is_eof() or payload.exception() is not None:
            break
        body = b"".join(getattr(payload, "_buffer", ()))
        messages.append(
            (head.method.encode(), head.path.encode("utf-8", "surrogateescape"), joined(head.raw_headers), body)
        )
        if head.should_close:
            break
    return Reading(messages, refused=False)


def compare(mine: Reading, other: Reading) -> None:
    """Every message of ours that the other accepts as well is the same."""
    for a, b in zip(mine.messages, other.messages, strict=False):
        assert a[:2] == b[:2]
        assert a[2] == b[2] or (
            a is not mine.messages[0] and a[2] < b[2]
        )  # aiohttp adds the trailers of the one before
        assert a[3] == b[3]


TOKEN = st.sampled_from(
    [b"X", b"x-a", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Host", b"Expect", b"TE"]
)
VALUE = st.sampled_from(
    [b"a", b"", b"0", b"5", b"05", b"5, 5", b"+5", b"chunked", b"Chunked", b"identity", b"gzip, chunked", b"close",
     b"keep-alive", b"upgrade", b"a:1", b"\xe4", b"5 5", b"100-continue", b'"chunked"', b"chunked;q=1"]
)  # fmt: skip
ODD = [b"\r", b"\n", b"\0", b" ", b"\t", b":", b"\x0b", b"\xa0", b",", b"\r\n", b"\r\n "]
LINE = st.tuples(
    TOKEN, st.sampled_from([b": ", b":", b":\t", b" : ", b": \t "]), VALUE, st.sampled_from([b"", b" ", b"\t"])
)
CHUNKS = st.lists(st.sampled_from([b"5\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"05\r\nhello\r\n", b"1\r\nx\r\n", b"5 \r\nhello\r\n",
                                   b"0x5\r\nhello\r\n", b"5\nhello\n"]), max_size=3)  # fmt: skip
END = st.sampled_from(
    [b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"0;a\r\n\r\n", b"0\r\nContent-Length: 9\r\n\r\n", b"0\r\n\n", b""]
)


@st.composite
def heads(draw: st.DrawFn, first: bytes) -> bytes:
    lines = [b"".join(line) + b"\r\n" for line in draw(st.lists(LINE, max_size=4))]
    data = first + b"".join(lines) + b"\r\n"
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(ODD)) + data[at:]
    return data


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    line = draw(
        st.sampled_from(
            [b"POST / HTTP/1.1\r\n", b"GET /a?b HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", b"PUT http://a/ HTTP/1.1\r\n"]
        )
    )
    framing = draw(
        st.sampled_from([b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"content-length:5\r\n"])
    )
    data = draw(heads(line + b"Host: a\r\n" + framing))
    if b"chunked" in data.lower() and draw(st.booleans()):
        return data + b"".join(draw(CHUNKS)) + draw(END)
    return data + draw(st.sampled_from([b"hello", b"", b"hell", b"hello!"]))


def judge_request(data: bytes, loop: asyncio.AbstractEventLoop) -> None:
    mine, h, a = ours(data), with_h11(data), with_aiohttp(data, loop)
    compare(mine, h)
    compare(mine, a)
    if h.refused and a.refused and not h.messages and not a.messages:
        assert not mine.messages, "we accept what both others refuse"


@examples(6)
@given(data=st.lists(requests(), min_size=1, max_size=2).map(b"".join))
def test_requests_mean_the_same_to_everybody(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    judge_request(data + _NEXT, loop)


@pytest.mark.parametrize("case", corpus.table("requests.toml")["accepted"], ids=lambda case: case[2])
def test_what_we_accept_means_the_same_to_everybody(loop: asyncio.AbstractEventLoop, case: list[Any]) -> None:
    data = corpus.raw(case[3]).replace(corpus.PAUSE, b"")
    judge_request(data + _NEXT, loop)
    assert ours(data + _NEXT).messages[-1][1] == b"/next"


# answers


def answer_ours(data: bytes) -> tuple[int, frozenset[tuple[bytes, bytes]], bytes] | None:
    """None: not a whole answer."""
    sink, _ = read_answer([data])
    if sink.end not in ("framed", "closed"):
        return None
    return sink.status, joined(sink.headers), sink.body


def answer_h11(data: bytes) -> tuple[int, frozenset[tuple[bytes, bytes]], bytes] | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=80_000)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        head = connection.next_event()
        while isinstance(head, h11.InformationalResponse):
            head = connection.next_event()
        if not isinstance(head, h11.Response):
            return None
        body = b""
        while isinstance(event := connection.next_event(), h11.Data):
            body += bytes(event.data)
        return (head.status_code, joined(head.headers), body) if isinstance(event, h11.EndOfMessage) else None
    except h11.RemoteProtocolError:
        return None


def answer_aiohttp(
    data: bytes, loop: asyncio.AbstractEventLoop
) -> tuple[int, frozenset[tuple[bytes, bytes]], bytes] | None:
    protocol = BaseProtocol(loop)
    protocol.transport = _Transport()  # type: ignore[assignment]
    parser = HttpResponseParser(
        protocol, loop, 2**20, max_line_size=70_000, max_field_size=70_000, read_until_eof=True, response_with_body=True
    )
    try:
        found, _, _ = parser.feed_data(data)
        parser.feed_eof()
    except (http_exceptions.BadHttpMessage, http_exceptions.PayloadEncodingError, zlib.error):
        return None
    for head, payload in found:
        if head.code >= 200:
            if payload.exception() is not None or not payload.is_eof():
                return None
            return head.code, joined(head.raw_headers), b"".join(getattr(payload, "_buffer", ()))
    return None


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    before = draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"])
    )
    line = draw(
        st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 500 \r\n"])
    )
    framing = draw(
        st.sampled_from([b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"content-length:5\r\n"])
    )
    data = before + draw(heads(line + framing))
    if b"chunked" in data.lower() and draw(st.integers(0, 3)):
        return data + b"".join(draw(CHUNKS)) + draw(END)
    return data + draw(st.sampled_from([b"hello", b"", b"hell"]))


def judge_answer(data: bytes, loop: asyncio.AbstractEventLoop) -> None:
    mine = answer_ours(data)
    if mine is None:
        return
    others = [found for found in (answer_h11(data), answer_aiohttp(data, loop)) if found is not None]
    assert others, "we accept what both others refuse"
    for status, headers, body in others:
        assert mine[0] == status
        assert mine[1] == headers
        assert mine[2] == body


@examples(6)
@given(data=answers())
def test_answers_mean_the_same_to_everybody(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    judge_answer(data, loop)
