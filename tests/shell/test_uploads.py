"""Bodies that arrive: a steady one may take its time, a slow or an endless one may not, and none is copied whole."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from router.config import Config
from router.gateway.server import limits_of
from router.wire.gate import Gate
from router.wire.inbound import Inbound, InboundRequest
from tests.support.transports import DeadEnd

LIMITS = replace(
    limits_of(Config()),
    body_bytes=1024 * 1024,
    body_timeout_s=30.0,
    body_bytes_per_s=16 * 1024,
    body_whole_s=50.0,
)
HEAD = b"POST /v1/x HTTP/1.1\r\nhost: a\r\n"


class Door:
    """A handler that notes what it is handed, and a clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.requests: list[InboundRequest] = []
        self.refused: list[tuple[str, str]] = []
        self.gate = Gate(LIMITS, lambda: self.now_s)
        self.transport = DeadEnd()
        self.connection = Inbound(self.gate, self)
        self.connection.connection_made(cast(Any, self.transport))

    def begin(self, connection: Inbound, request: InboundRequest) -> None:
        self.requests.append(request)

    def refuse(self, connection: Inbound, code: str, detail: str) -> None:
        self.refused.append((code, detail))

    def lost(self, connection: Inbound) -> None: ...

    def writable(self, connection: Inbound, ready: bool) -> None: ...

    def upload(self, size: int, bytes_per_s: int) -> float:
        """Send a body in pieces, one a second. Returns after how many seconds it was there or refused."""
        self.connection.data_received(HEAD + b"content-length: %d\r\n\r\n" % size)
        sent = 0
        while not self.requests and not self.refused:
            self.now_s += 1.0
            piece = min(bytes_per_s, size - sent)
            sent += piece
            self.connection.data_received(b"x" * piece)
            self.gate.sweep()
            assert self.now_s < 1000
        return self.now_s


@pytest.mark.parametrize(
    ("size", "bytes_per_s", "took_s"),
    [
        (400_000, 10_000, 30),  # too slow, and its time is over
        (400_000, 15_000, 27),  # as slow, but short
        (800_000, 20_000, 40),  # steady: longer than the time of a slow one
        (1_000_000, 17_000, 50),  # steady, and yet its whole time is over
        (1_000_000, 30_000, 34),
        (200_000, 500, 8),  # nearly nothing
    ],
)
def test_a_body_has_time_as_long_as_it_comes(size: int, bytes_per_s: int, took_s: int) -> None:
    door = Door()
    assert door.upload(size, bytes_per_s) == pytest.approx(took_s, abs=1)
    complete = bytes_per_s * took_s >= size
    assert len(door.requests) == complete
    assert [code for code, _ in door.refused] == ([] if complete else ["request_timeout"])
    door.connection.connection_lost(None)
    assert not any((door.gate.bodies, door.gate.uploads, door.gate.paces, door.gate.buffered_bytes))


async def _sent_until_refused(door: Door, chunk: bytes) -> int:
    """How many bytes an endless body brings in before it is refused."""
    door.connection.data_received(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    sent = 0
    while not door.refused:
        door.connection.data_received(chunk)
        sent += len(chunk)
        while door.connection._resting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert sent < 100 * door.gate.limits.body_bytes, "it is never refused"
    return sent


@pytest.mark.parametrize("unit", [b"x", b"x" * 7, b"x" * 100, b"x" * 65_536])
@pytest.mark.parametrize("extension", [b"", b";a=b"])
async def test_a_body_without_end_is_refused_at_the_limit(unit: bytes, extension: bytes) -> None:
    door = Door()
    chunk = b"%x%b\r\n%b\r\n" % (len(unit), extension, unit)
    sent = await _sent_until_refused(door, chunk * max(1, 4096 // len(chunk)))
    assert sent <= LIMITS.body_bytes * 9 // 8 + 2 * 65_536
    assert [code for code, _ in door.refused] == ["body_too_large"]


@pytest.mark.parametrize("limit_bytes", [1024, 64 * 1024, 32 * 1024 * 1024])
@pytest.mark.parametrize("extension", [b"", b";a=b", b";" + b"a" * 4000])
async def test_tiny_chunks_cost_less_than_twice_the_limit(limit_bytes: int, extension: bytes) -> None:
    door = Door()
    door.gate.reload(replace(LIMITS, body_bytes=limit_bytes))
    chunk = b"1%b\r\nx\r\n" % extension
    sent = await _sent_until_refused(door, chunk * max(1, min(limit_bytes // 8, 4096) // len(chunk)))
    assert sent <= max(2 * limit_bytes, 5000)


async def test_what_comes_after_a_refusal_is_not_read_for_ever() -> None:
    paused: list[bool] = []
    door = Door()
    door.transport.pause_reading = lambda: paused.append(True)  # type: ignore[method-assign]
    door.connection.data_received(HEAD + b"content-length: %d\r\n\r\n" % (LIMITS.body_bytes + 1))
    assert door.refused
    for _ in range(40):
        door.connection.data_received(b"x" * 65_536)
    assert paused == [True]


@pytest.mark.parametrize(("size", "kind"), [(1000, bytes), (256 * 1024, bytes), (256 * 1024 + 1, bytearray)])
@pytest.mark.parametrize("chunked", [False, True])
async def test_only_a_short_body_is_copied(size: int, kind: type, chunked: bool) -> None:
    door = Door()
    body = bytes(range(250)) * (size // 250) + b"x" * (size % 250)
    pieces = [body[at : at + 60_000] for at in range(0, size, 60_000)]
    if chunked:
        door.connection.data_received(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    else:
        door.connection.data_received(HEAD + b"content-length: %d\r\n\r\n" % size)
    for piece in pieces:
        door.connection.data_received(piece)
        await asyncio.sleep(0)
    (request,) = door.requests
    assert request.body == body
    assert type(request.body) is kind
