"""The client's half: how an answer is framed, begun, broken off, and what is left of the connection."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from router.gateway.answer import Answer
from router.wire.head import RequestHead


@dataclass
class Written:
    """Stands in for the client's connection."""

    pieces: list[bytes] = field(default_factory=list)
    paused: bool = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)


def answer_to(*, http11: bool = True, keep_alive: bool = True) -> tuple[Answer, Written]:
    written = Written()
    head = RequestHead(b"POST", b"/", http11, {}, keep_alive)
    return Answer(written, head), written  # type: ignore[arg-type]


#: http 1.1, keep-alive, length of a whole body or None, router closing -> header lines, kept afterwards
FRAMING = [
    (True, True, None, False, b"transfer-encoding: chunked\r\n", True),
    (True, False, None, False, b"transfer-encoding: chunked\r\nconnection: close\r\n", False),
    (False, True, None, False, b"connection: close\r\n", False),
    (True, True, 5, False, b"content-length: 5\r\n", True),
    (False, True, 5, False, b"content-length: 5\r\nconnection: keep-alive\r\n", True),
    (False, False, 5, False, b"content-length: 5\r\nconnection: close\r\n", False),
    (True, True, 5, True, b"content-length: 5\r\nconnection: close\r\n", False),
]


@pytest.mark.parametrize(("http11", "keep_alive", "length", "closing", "lines", "kept"), FRAMING)
def test_framing(http11: bool, keep_alive: bool, length: int | None, closing: bool, lines: bytes, kept: bool) -> None:
    answer, _ = answer_to(http11=http11, keep_alive=keep_alive)
    assert answer.framing(length, closing=closing) == lines
    assert answer.keep_alive is kept
    assert answer.chunked is (http11 and length is None)


def test_an_answer_without_a_body_has_no_length() -> None:
    answer, _ = answer_to()
    assert answer.framing(0, closing=False, bodiless=True) == b""


def test_a_stream_of_chunks() -> None:
    answer, written = answer_to()
    answer.framing(None, closing=False)
    answer.begin(b"HEAD\r\n", b"data: a\n\n", events=True)
    answer.write(b"data: b\n\n")
    answer.end()
    assert written.pieces == [b"HEAD\r\n9\r\ndata: a\n\n\r\n", b"9\r\ndata: b\n\n\r\n", b"0\r\n\r\n"]
    assert answer.delivered_bytes == 18, "framing is not content"


def test_a_client_of_http_1_0_gets_the_bytes_alone() -> None:
    answer, written = answer_to(http11=False)
    answer.framing(None, closing=False)
    answer.begin(b"HEAD\r\n", b"a", events=True)
    answer.write(b"b")
    answer.end()
    assert b"".join(written.pieces) == b"HEAD\r\nab"


def test_a_stream_without_a_first_part_begins_with_its_head_alone() -> None:
    answer, written = answer_to()
    answer.framing(None, closing=False)
    answer.begin(b"HEAD\r\n", b"", events=False)
    assert written.pieces == [b"HEAD\r\n"], "an empty chunk would end it"


@pytest.mark.parametrize(("events", "said"), [(True, b"1\r\n!\r\n"), (False, b"")])
def test_an_answer_that_is_broken_off_does_not_end_well(events: bool, said: bytes) -> None:
    answer, written = answer_to()
    answer.framing(None, closing=False)
    answer.begin(b"HEAD\r\n", b"a", events=events)
    answer.break_off(b"!")
    assert b"".join(written.pieces[1:]) == said
    assert not answer.keep_alive
    assert b"0\r\n\r\n" not in b"".join(written.pieces)


def test_a_refusal_is_the_whole_answer() -> None:
    answer, written = answer_to()
    answer.refuse(b"HTTP/1.1 429 Too Many", body_bytes=7, keep_alive=True)
    assert answer.begun
    assert (answer.delivered_bytes, answer.keep_alive, len(written.pieces)) == (7, True, 1)
