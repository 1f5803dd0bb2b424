"""The backend's half: when an answer begins, what keeps it alive, and how it is judged in the end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.playbook import ALONE, DONE, Playbook, chat, event, whole

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'


async def begun(book: Playbook, *pieces: bytes, stream: bool = True, **fields: Any):  # type: ignore[no-untyped-def]
    client = book.client()
    client.send(chat(stream=stream, **fields))
    await book.turn()
    backend = book.asked
    if stream:
        backend.streams(*pieces)
    return client, backend


@pytest.mark.parametrize(
    "before",
    [(), (ROLE,), (b": ping\n\n",), (b"event: x\n\n",), (b'data: {"choices":[]}\n\n',)],
    ids=["nothing", "role", "comment", "name", "no choices"],
)
async def test_before_the_first_token_nothing_has_happened(book: Playbook, before: tuple[bytes, ...]) -> None:
    client, backend = await begun(book, *before)
    assert not client.heard
    backend.dies()
    await book.turn()
    book.asked.streams(event("Hi"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    book.at_rest()


@pytest.mark.parametrize("cut", range(1, 30))
async def test_events_go_on_whole_wherever_they_are_cut(book: Playbook, cut: int) -> None:
    text = event("Grüße, 世界")
    client, backend = await begun(book, event("a"))
    before = client.answer.body
    backend.goes_on(text[:cut])
    assert client.answer.body == before, "half an event is held"
    backend.goes_on(text[cut:])
    assert client.answer.body == before + text


async def test_a_plain_token_goes_on_as_it_came(book: Playbook) -> None:
    client, backend = await begun(book, event("a"), event("b"))
    client.wire.take()
    framed = b"%x\r\n%b\r\n" % (len(event("c")), event("c"))
    backend.says(framed)
    assert client.wire.take() == framed


async def test_comments_are_life_for_a_while(book: Playbook) -> None:
    client, backend = await begun(book, event("a"), **ALONE)
    for _ in range(5):
        book.advance(50.0)
        backend.goes_on(b": held back\n\n")
    assert not client.wire.closed
    book.advance(61.0)
    await book.turn()
    assert b"stream_interrupted" in client.answer.body
    book.at_rest()


async def test_an_answer_ends_soon_after_it_says_so(book: Playbook) -> None:
    client, _ = await begun(book, event("a"), event(finish="stop"), DONE)
    assert not client.answer.whole
    book.advance(0.3)
    assert client.answer.whole, "whatever the engine does with its connection"
    assert book.records[0].error is None
    book.at_rest()


async def test_an_end_without_a_finish_is_a_cut(book: Playbook) -> None:
    client, backend = await begun(book, event("half an"), **ALONE)
    backend.goes_on(end=True)
    await book.turn()
    assert b"stream_interrupted" in client.answer.body
    assert not client.answer.whole
    book.at_rest()


async def test_a_client_that_does_not_read_stops_the_backend(book: Playbook) -> None:
    client, backend = await begun(book, event("a"))
    (connection,) = backend.connections
    client.stop_reading()
    assert not connection.wire.reading
    book.advance(29.0)
    assert not client.wire.closed
    assert book.app.fleet.backends[backend.pool.spec.name].reputation.failures_total == 0


async def test_reading_goes_on_when_the_client_reads_again(book: Playbook) -> None:
    client, backend = await begun(book, event("a"))
    client.stop_reading()
    client.read_on()
    (connection,) = backend.connections
    assert connection.wire.reading
    backend.goes_on(event("b"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    book.at_rest()


async def test_a_backend_that_refuses_connections_loses_what_waits_there(book: Playbook) -> None:
    client, backend = await begun(book, ROLE)
    book.app.lifecycle.backend_refused(backend.pool.spec.name)
    await book.turn()
    assert book.asked is not backend
    book.asked.streams(event("Hi"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    book.at_rest()


async def test_a_stream_that_falls_silent_there_ends_soon(book: Playbook) -> None:
    client, backend = await begun(book, event("a"), **ALONE)
    book.app.lifecycle.backend_refused(backend.pool.spec.name)
    book.advance(4.0)
    backend.goes_on(event("b"))
    book.advance(4.0)
    assert not client.wire.closed, "it is not silent"
    book.advance(2.0)
    await book.turn()
    assert b"stream_interrupted" in client.answer.body
    book.at_rest()


@pytest.mark.parametrize("framed", [True, False])
async def test_a_whole_answer_that_is_cut_is_asked_for_again(book: Playbook, framed: bool) -> None:
    client, backend = await begun(book, stream=False)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{'content-length: 999' if framed else 'connection: close'}"
    backend.says(head.encode() + b"\r\n\r\n" + whole()[:20])
    backend.dies()
    await book.turn()
    book.asked.answers(body=whole())
    assert client.answer.body == whole()
    book.at_rest()
