"""A body in pieces: whatever the pieces are, the body is the same, and what follows it is returned."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.chunked import ChunkedError
from router.wire.head import RequestHead, RequestHeads
from router.wire.upload import Upload


def head_of(framing: bytes) -> tuple[RequestHead, int]:
    return RequestHeads(100).read(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")


def with_length(size: int) -> Upload:
    return Upload(*head_of(b"Content-Length: %d" % size))


def in_chunks() -> Upload:
    return Upload(*head_of(b"Transfer-Encoding: chunked"))


def fed(upload: Upload, data: bytes, cuts: list[int]) -> bytes:
    """Feed the pieces, and again what was not taken. Returns what follows the body."""
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    rest = b""
    for start, end in itertools.pairwise(edges):
        rest += data[start:end]
        while rest and not upload.done:
            rest = upload.feed(rest)
            if not upload.stopped:
                break
    return rest


@given(st.binary(max_size=300), st.binary(max_size=30), st.lists(st.integers(0, 400)))
def test_a_body_with_a_length_is_cut_exactly(body: bytes, after: bytes, cuts: list[int]) -> None:
    upload = with_length(len(body))
    assert upload.done == (not body)
    rest = fed(upload, body + after, cuts)
    assert (upload.done, upload.size_bytes, bytes(upload.take()), rest) == (True, len(body), body, after)


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=600), st.binary(max_size=30), st.lists(st.integers(0, 9000))
)
def test_a_body_in_chunks_is_cut_exactly(chunks: list[bytes], after: bytes, cuts: list[int]) -> None:
    upload = in_chunks()
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    rest = fed(upload, data + after, cuts)
    assert (upload.done, bytes(upload.take()), rest) == (True, b"".join(chunks), after)


def test_a_length_over_the_limit_is_known_before_the_body() -> None:
    assert with_length(101).exceeds(100)
    assert not with_length(100).exceeds(100)


def test_a_chunk_over_the_limit_is_known_by_its_size_line() -> None:
    upload = in_chunks()
    upload.feed(b"65\r\n")
    assert upload.exceeds(100)
    assert not upload.exceeds(101)


def test_framing_out_of_proportion_exceeds_any_limit() -> None:
    upload, chunk, sent = in_chunks(), b"1" + b";a=" + b"b" * 8 + b"\r\nx\r\n", 0
    while not upload.exceeds(1000) and upload.size_bytes < 1000:
        upload.feed(chunk)
        sent += 1
    assert upload.exceeds(1000)
    assert upload.size_bytes < 1000


def test_chunks_that_are_not_strict_are_refused() -> None:
    with pytest.raises(ChunkedError):
        in_chunks().feed(b"0x5\r\nhello\r\n")
