"""wire/chunked.py: what is strict passes at any split, everything else is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.chunked import ChunkedDecoder, ChunkedError


def encode(pieces: list[bytes], trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n" + trailers + b"\r\n"


def feed_all(decoder: ChunkedDecoder, data: bytes) -> None:
    decoder.feed(data)
    while decoder.stopped and not decoder.done:
        decoder.feed(decoder.take_rest())


@given(
    pieces=st.lists(st.binary(max_size=50), max_size=8),
    trailers=st.sampled_from([b"", b"x-a: b\r\n", b"x-a: b\r\nx-c:\r\n"]),
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 500), max_size=6),
)
def test_any_split_gives_the_body_and_leaves_the_rest(
    pieces: list[bytes], trailers: bytes, rest: bytes, cuts: list[int]
) -> None:
    data = encode(pieces, trailers) + rest
    decoder = ChunkedDecoder()
    start = 0
    fed = b""
    for cut in [*sorted(min(c, len(data)) for c in cuts), len(data)]:
        if decoder.done:
            break
        decoder.feed(data[start:cut])
        fed, start = data[:cut], cut
    assert decoder.done
    assert decoder.body == b"".join(pieces)
    assert decoder.announced_bytes == len(decoder.body)
    assert decoder.take_rest() + data[len(fed) :] == rest


@pytest.mark.parametrize(
    "data",
    [
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"-1\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloo\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"\r\n",
        b"g\r\n",
        b"fffffffff\r\n",
        b"5;a=\x00\r\nhello\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
        b"5" + b"0" * 5000,
        b"5;" + b"x" * 5000 + b"\r\n",
        b"0\r\n" + b"x: y\r\n" * 3000,
        b"1_0\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"5;\r\nhello\r\n",
        b"5;a=\r\nhello\r\n",
        b'5;a="b\r\nhello\r\n',
        b"5 a\r\nhello\r\n",
    ],
)
def test_what_is_not_strict_is_refused(data: bytes) -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(ChunkedError):
        feed_all(decoder, data)


@pytest.mark.parametrize("extension", [b";a", b";a=b", b' ; a = "b;c\\"d" ;e', b";a;b=c"])
def test_extensions_are_read_over(extension: bytes) -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"5%b\r\nhello\r\n0%b\r\n\r\n" % (extension, extension))
    assert decoder.done
    assert decoder.body == b"hello"


class Copied(bytes):
    """Bytes that count how many of them are copied out of them and out of their copies."""

    count = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, bytes):
            Copied.count += len(part)
            return Copied(part)
        return part


def test_tiny_chunks_are_taken_in_turns_and_not_copied_each() -> None:
    """A slice of the rest after each chunk would copy the square of it."""
    data = b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"
    decoder = ChunkedDecoder()
    Copied.count = 0
    decoder.feed(Copied(data))
    turns = 1
    while decoder.stopped:
        turns += 1
        before = len(decoder.body)
        decoder.feed(decoder.take_rest())
        assert len(decoder.body) - before <= 400, "nobody else has a turn"
    assert decoder.done
    assert len(decoder.body) == 10_000
    assert decoder.framing_bytes == len(data) - 10_000
    assert 10_000 // 400 <= turns <= 30
    assert 0 < Copied.count <= turns * len(data)
