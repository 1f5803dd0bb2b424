"""A fault on purpose, between a connection and who reads its answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from router.upstream.faulty import _Broken, _FaultyOutbound, _Slow
from router.wire.head import Headers

STREAM = Headers()
STREAM.append((b"content-type", b"text/event-stream"))
JSON = Headers()
JSON.append((b"content-type", b"application/json"))
EVENTS = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % i for i in range(5)]


class Reader:
    """A Sink that notes what it is told, and when."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.at_s: list[float] = []

    def _note(self, *what: Any) -> None:
        self.told.append(what)
        self.at_s.append(asyncio.get_running_loop().time())

    def on_head(self, status: int, headers: Headers) -> None:
        self._note("head", status)

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        self._note("body", data)

    def on_end(self, *, framed: bool) -> None:
        self._note("end")

    def on_fail(self, reason: str, *, answered: bool) -> None:
        self._note("fail", reason)


class Connection:
    """As much of an Outbound as they touch."""

    def __init__(self) -> None:
        self.sink: object = None
        self.given_up = False

    def abort(self) -> None:
        self.sink, self.given_up = None, True


def broken(after_tokens: int, *, silent: bool) -> tuple[_Broken, Reader, Connection]:
    connection, reader = Connection(), Reader()
    fault = _Broken(cast(_FaultyOutbound, connection), reader, after_tokens, silent=silent)
    connection.sink = fault
    return fault, reader, connection


async def test_a_cut_lets_so_many_tokens_through_however_they_come() -> None:
    for pieces in (EVENTS, [b"".join(EVENTS)], [EVENTS[0], b"".join(EVENTS[1:])]):
        fault, reader, connection = broken(3, silent=False)
        fault.on_head(200, STREAM)
        for piece in pieces:
            if not connection.given_up:
                fault.on_body(piece, None)
        assert b"".join(told[1] for told in reader.told if told[0] == "body") == b"".join(EVENTS[:3])
        assert reader.told[-1] == ("fail", "lost")
        assert connection.given_up


async def test_after_a_stall_nothing_more_is_told() -> None:
    fault, reader, connection = broken(2, silent=True)
    fault.on_head(200, STREAM)
    fault.on_body(b"".join(EVENTS), None)
    fault.on_end(framed=True)
    fault.on_fail("lost", answered=True)
    assert reader.told == [("head", 200), ("body", b"".join(EVENTS[:2]))]
    assert not connection.given_up, "it is there, and silent"


async def test_what_is_no_stream_breaks_at_its_first_byte() -> None:
    fault, reader, connection = broken(50, silent=False)
    fault.on_head(200, JSON)
    fault.on_body(b"{}", None)
    assert reader.told == [("head", 200), ("fail", "lost")]
    fault, reader, connection = broken(50, silent=True)
    fault.on_head(200, JSON)
    fault.on_body(b"{}", None)
    assert (reader.told, connection.given_up) == ([], False)


async def test_slow_keeps_the_order_and_stretches_the_time() -> None:
    connection, reader = Connection(), Reader()
    began_s = asyncio.get_running_loop().time()
    fault = _Slow(cast(_FaultyOutbound, connection), reader, 5.0)
    fault.on_head(200, STREAM)
    await asyncio.sleep(0.03)
    fault.on_body(EVENTS[0], None)
    fault.on_body(EVENTS[1], None)
    fault.on_end(framed=True)
    assert [told[0] for told in reader.told] in ([], ["head"])
    async with asyncio.timeout(5):
        while not reader.told or reader.told[-1] != ("end",):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert [told[0] for told in reader.told] == ["head", "body", "body", "end"]
    assert reader.at_s[1] - began_s > 0.14


async def test_a_slow_answer_that_was_given_up_says_nothing_more() -> None:
    connection, reader = Connection(), Reader()
    fault = _Slow(cast(_FaultyOutbound, connection), reader, 5.0)
    await asyncio.sleep(0.01)
    fault.on_head(200, STREAM)
    connection.abort()
    await asyncio.sleep(0.08)
    assert reader.told == []
