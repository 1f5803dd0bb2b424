"""wire/outbound.py: a chunked answer is the same for any spelling of its sizes and any cut of its bytes."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from router.wire.head import Headers
from router.wire.outbound import Outbound

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire:
    """A transport and a sink: notes what is done to it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.framed = 0
        self.ended: str | None = None
        self.aborted = False

    def write(self, data: bytes) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        pass

    def on_head(self, status: int, headers: Headers) -> None:
        assert status == 200

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        assert self.ended is None
        if framed is not None:
            assert framed == b"%x\r\n%b\r\n" % (len(data), data), "what goes on as it came must be a plain chunk"
            self.framed += 1
        self.pieces.append(data)

    def on_end(self, *, framed: bool) -> None:
        assert self.ended is None
        self.ended = "end" if framed else "close"

    def on_fail(self, reason: str, *, answered: bool) -> None:
        assert self.ended is None
        self.ended = reason


def connection() -> tuple[Outbound, Wire, list[Outbound]]:
    wire, idle = Wire(), list[Outbound]()
    outbound = Outbound(idle.append, lambda _: None)
    outbound.connection_made(cast("object", wire))  # type: ignore[arg-type]
    return outbound, wire, idle


def receive(outbound: Outbound, wire: Wire, raw: bytes, cuts: list[int]) -> None:
    outbound.send((b"",), wire)
    edges = [0, *sorted({cut % len(raw) for cut in cuts} - {0}), len(raw)]
    for start, end in pairwise(edges):
        outbound.data_received(raw[start:end])


def spelled(data: bytes, how: int) -> bytes:
    size = (b"%x", b"%X", b"00%x", b"%x;a=b", b"%x")[how] % len(data)
    return size + b"\r\n" + data + b"\r\n"


#: Bodies that look like framing are the ones to mistake for it.
BODIES = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"\r\n", b"\r\n\r\n", b"5\r\nabcde\r\n", b"0\r\n\r\n", b"a", b"2\r\n\r\n", b"x" * 300]),
)


@given(st.lists(st.tuples(BODIES, st.integers(0, 4)), max_size=12), st.lists(st.integers(0, 4000), max_size=12))
def test_any_spelling_and_any_cut_give_the_same_body(chunks: list[tuple[bytes, int]], cuts: list[int]) -> None:
    raw = HEAD + b"".join(spelled(data, how) for data, how in chunks) + b"0\r\n\r\n"
    outbound, wire, idle = connection()
    for _ in range(2):  # the second answer comes on the same connection
        wire.ended, wire.pieces = None, []
        receive(outbound, wire, raw, cuts)
        assert wire.ended == "end"
        assert b"".join(wire.pieces) == b"".join(data for data, _ in chunks)
    assert idle == [outbound, outbound]
    assert not wire.aborted


@given(st.lists(BODIES, min_size=1, max_size=8))
def test_a_read_that_is_a_plain_chunk_goes_on_as_it_came(chunks: list[bytes]) -> None:
    outbound, wire, _ = connection()
    outbound.send((b"",), wire)
    outbound.data_received(HEAD)
    for data in chunks:
        outbound.data_received(b"%x\r\n%b\r\n" % (len(data), data))
    assert wire.framed == len(chunks)
    assert wire.pieces == chunks


@given(st.lists(BODIES, max_size=3), BODIES, st.sampled_from([b"-5", b"+5", b"0x5", b" 5", b"5 5", b"", b"g", b"5_0"]))
def test_a_size_that_is_none_breaks_the_connection(before: list[bytes], data: bytes, size: bytes) -> None:
    outbound, wire, idle = connection()
    outbound.send((b"",), wire)
    outbound.data_received(HEAD)
    for body in before:
        outbound.data_received(b"%x\r\n%b\r\n" % (len(body), body))
    outbound.data_received(size + b"\r\n" + data + b"\r\n")
    assert wire.ended == "protocol"
    assert wire.aborted
    assert not idle
