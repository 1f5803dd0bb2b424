"""A backend goes away at a known time: its requests are handed over, spread over the end of the time, and none is cut."""

from __future__ import annotations

from typing import Any

import pytest

from router.core.leaving import Notice
from tests.support.playbook import DONE, Backend, Client, Playbook, chat, configuration, event, whole

NAME = "us-east/a"


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def framed(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


async def begin(book: Playbook, count: int, *, stream: bool = True, **fields: Any) -> list[Client]:
    """``count`` requests, all at one backend."""
    for name in book.backends:
        book.app.fleet.set_draining(name, name != NAME)
    clients = [book.client() for _ in range(count)]
    for client in clients:
        client.send(chat(stream=stream, **fields))
        await book.turn()
    for name in book.backends:
        book.app.fleet.set_draining(name, False)
    assert asked(book.backend(NAME)) == count
    return clients


def asked(backend: Backend) -> int:
    """Requests that it works on."""
    return sum(c.outbound.sink is not None and not c.wire.closed for c in backend.connections)


def give_notice(book: Playbook, in_s: float, name: str = NAME) -> None:
    book.app.fleet.set_notice(name, Notice(book.now_s, book.now_s + in_s, "a test"))


async def pass_time(book: Playbook, seconds: float) -> None:
    for _ in range(round(seconds / 0.05)):
        book.advance(0.05)
    await book.turn()


async def test_nothing_new_goes_there_and_nothing_is_moved_before_it_must(book: Playbook) -> None:
    await begin(book, 4)
    give_notice(book, 20)
    new = book.client()
    new.send(chat())
    await book.turn()
    assert asked(book.backend(NAME)) == 4
    await pass_time(book, 8.5)  # the window is from 9 to 18 s
    assert asked(book.backend(NAME)) == 4
    assert book.app.fleet.backends[NAME].leaving is not None


async def test_what_is_left_goes_elsewhere_one_by_one_and_the_clients_see_nothing(book: Playbook) -> None:
    clients = await begin(book, 6)
    give_notice(book, 20)
    await pass_time(book, 9)
    seen = []
    for _ in range(9):
        await pass_time(book, 1)
        seen.append(asked(book.backend(NAME)))
    assert seen[-1] == 0
    assert all(a - b <= 1 for a, b in zip([6, *seen], seen, strict=False)), f"never all at once: {seen}"
    for name in ("us-east/b", "eu-west/a"):
        for place, connection in enumerate(book.backend(name).connections):
            if connection.outbound.sink is not None:
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
                book.backend(name).says(head + event("Hello") + event(finish="stop") + DONE, at=place)
                connection.outbound.connection_lost(None)
    await book.turn()
    for client in clients:
        assert client.answer.status == 200
        assert client.answer.body.endswith(DONE)
        assert client.answer.headers["x-router-attempts"] == "2"
    assert {a.outcome for r in book.records for a in r.attempts} == {"moved", "ok"}
    assert book.app.fleet.backends[NAME].reputation.failures_total == 0, "it is not to blame"
    book.at_rest()


async def test_a_whole_answer_is_asked_for_again_elsewhere(book: Playbook) -> None:
    [client] = await begin(book, 1, stream=False)
    give_notice(book, 20)
    await pass_time(book, 18.1)
    assert asked(book.backend(NAME)) == 0
    book.asked.answers(body=whole())
    assert client.answer.status == 200


async def test_where_nobody_else_can_answer_they_stay(book: Playbook) -> None:
    clients = await begin(book, 3)
    for name in book.backends:
        give_notice(book, 20, name)
    await pass_time(book, 30)
    assert asked(book.backend(NAME)) == 3, "until it is really gone"
    assert not any(client.heard for client in clients)


async def test_the_last_attempt_of_a_request_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    others = ("us-east/b", "us-east/c", "eu-west/a")
    book = Playbook(monkeypatch, configuration(backends=(NAME, *others)))
    book.app.fleet.set_draining(NAME, True)
    client = book.client()
    client.send(chat())
    await book.turn()
    book.asked.answers(429, b"{}")
    await book.turn()
    for name in book.backends:
        book.app.fleet.set_draining(name, name != NAME)
    book.asked.answers(429, b"{}")
    await book.turn()
    for name in book.backends:
        book.app.fleet.set_draining(name, False)
    assert asked(book.backend(NAME)) == 1, "the third of three; one backend has not been asked"
    give_notice(book, 20)
    await pass_time(book, 25)
    book.backend(NAME).answers(body=whole())
    await book.turn()
    assert client.answer.status == 200


async def test_those_that_are_through_are_not_touched(book: Playbook) -> None:
    [client] = await begin(book, 1)
    give_notice(book, 20)
    await pass_time(book, 5)
    book.asked.streams(event("Hello"), event(finish="stop"), DONE, end=True)
    await pass_time(book, 20)
    assert [a.outcome for a in book.records[0].attempts] == ["ok"]
    assert client.answer.whole
    book.at_rest()


async def test_streams_go_on_elsewhere_and_those_that_cannot_stay(book: Playbook) -> None:
    clients = await begin(book, 4)
    first = book.backend(NAME)
    for place in range(4):
        first.says(STREAM + framed(event("a")), at=place)
    give_notice(book, 20)
    await pass_time(book, 18.1)
    assert asked(first) == 0
    for name in ("us-east/b", "eu-west/a"):
        for place, connection in enumerate(book.backend(name).connections):
            if connection.outbound.sink is not None:
                data = framed(event("b"), event(finish="stop"), DONE) + b"0\r\n\r\n"
                book.backend(name).says(STREAM + data, at=place)
    await book.turn()
    for client in clients:
        assert client.answer.whole
        assert client.answer.body.count(DONE) == 1
        assert [text in client.answer.body for text in (b'"a"', b'"b"')] == [True, True]
    assert {tuple(a.outcome for a in r.attempts) for r in book.records} == {("moved", "ok")}
    book.at_rest()


async def test_an_answer_that_nobody_can_go_on_with_stays_until_its_end(book: Playbook) -> None:
    [client] = await begin(book, 1, logprobs=True)
    book.asked.streams(event("a"))
    give_notice(book, 20)
    await pass_time(book, 25)
    assert asked(book.backend(NAME)) == 1
    book.asked.goes_on(event("b"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert [a.outcome for a in book.records[0].attempts] == ["ok"]


async def test_a_cancelled_notice_moves_nothing(book: Playbook) -> None:
    await begin(book, 2)
    give_notice(book, 20)
    await pass_time(book, 5)
    book.app.fleet.set_notice(NAME, None)
    await pass_time(book, 30)
    assert asked(book.backend(NAME)) == 2
    client = book.client()
    client.send(chat(headers={"x_router_region": "us-east"}))
    await book.turn()
    give_notice(book, 0, NAME)
    await pass_time(book, 0.1)
    assert asked(book.backend(NAME)) == 0, "a notice without time hands over at once"
