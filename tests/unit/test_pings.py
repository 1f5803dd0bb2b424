"""A stream that has begun is never silent for more than 15 seconds."""

from __future__ import annotations

from tests.support.playbook import DONE, Playbook, chat, event

PING = b": ping\n\n"


def pass_time(book: Playbook, seconds: float) -> None:
    for _ in range(round(seconds * 20)):
        book.advance(0.05)


async def test_silence_is_filled_between_two_events(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    backend = book.asked
    backend.streams(event("a"), event("b")[:20])
    begun = client.answer.body
    pass_time(book, 12.0)
    assert client.answer.body == begun
    pass_time(book, 3.0)
    assert client.answer.body == begun + PING
    pass_time(book, 15.0)
    assert client.answer.body == begun + PING * 2
    backend.goes_on(event("b")[20:], event(finish="stop"), DONE, end=True)
    assert client.answer.body == begun + PING * 2 + event("b") + event(finish="stop") + DONE
    book.at_rest()


async def test_a_stream_that_speaks_is_not_filled(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    backend = book.asked
    backend.streams(event("a"))
    for _ in range(4):
        pass_time(book, 10.0)
        backend.goes_on(event("b"))
    assert PING not in client.answer.body
    client.leave()


async def test_nothing_is_said_before_the_first_token_or_in_a_whole_answer(book: Playbook) -> None:
    client, other = book.client(), book.client()
    client.send(chat(stream=True))
    other.send(chat())
    await book.turn()
    pass_time(book, 20.0)
    assert not client.heard
    assert not other.heard
    client.leave()
    other.leave()


async def test_not_within_an_event_that_goes_on_in_parts(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    backend = book.asked
    backend.streams(event("a"))
    long = event("x" * (2 * 1024 * 1024))
    half = long[: 1200 * 1024]
    backend.goes_on(*(half[at : at + 16_000] for at in range(0, len(half), 16_000)))
    pass_time(book, 16.0)
    assert PING not in client.answer.body
    client.leave()


async def test_silence_while_another_backend_is_waited_for_is_filled(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    first = book.asked
    first.streams(event("a"))
    pass_time(book, 10.0)
    first.dies()
    await book.turn()
    second = book.asked
    pass_time(book, 5.0)
    assert client.answer.body == event("a") + PING
    second.streams(event("b"), event(finish="stop"), DONE, end=True)
    assert client.answer.body == event("a") + PING + event("b") + event(finish="stop") + DONE
    book.at_rest()


async def test_a_client_that_does_not_read_is_not_sent_more(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    book.asked.streams(event("a"))
    client.stop_reading()
    pass_time(book, 16.0)
    assert PING not in client.answer.body
    client.leave()
