"""A hedged request, through the whole router: two backends are asked, one answers, the client sees one answer."""

from __future__ import annotations

import orjson
import pytest

from tests.support.playbook import DONE, HEAD, Backend, Client, Playbook, chat, configuration, event, post

HEDGE = "\n[hedge]\nenabled = true\nbudget = 50.0\nfloor = 0.2\n"
NAMES = ("us-east/a", "us-east/b", "us-east/c")
ROUND_ROBIN = HEAD.replace('region = "us-east"', 'region = "us-east"\npolicy = "round_robin"')


@pytest.fixture
async def book(monkeypatch: pytest.MonkeyPatch) -> Playbook:
    """Its budget is full: some requests were answered before."""
    book = Playbook(monkeypatch, configuration(ROUND_ROBIN + HEDGE, NAMES))
    for _ in range(6):
        await answered(book)
    return book


async def answered(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    backend = book.asked
    book.advance(0.05)
    backend.streams(event("x"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole


async def late(book: Playbook, request: bytes | None = None) -> tuple[Client, Backend, Backend]:
    """A request whose first backend is silent: the client, that backend, and the one that is asked, too."""
    client = book.client()
    client.send(chat(stream=True) if request is None else request)
    await book.turn()
    first = book.asked
    book.advance(0.9)
    await book.turn()
    second = next(b for b in book.backends.values() if b is not first and in_use(b))
    return client, first, second


def in_use(backend: Backend) -> bool:
    return any(c.outbound.sink is not None and not c.wire.closed for c in backend.connections)


def kinds(book: Playbook) -> list[tuple[str, str]]:
    return [(attempt.outcome, attempt.kind) for attempt in book.records[0].attempts]


async def test_the_second_backend_answers_first(book: Playbook) -> None:
    client, first, second = await late(book)
    assert second.asked[-1].rpartition(b"\r\n\r\n")[2] == first.asked[-1].rpartition(b"\r\n\r\n")[2]
    second.streams(event("Hel"))
    assert not in_use(first), "the loser is aborted at once"
    assert client.answer.headers["x-router-attempts"] == "2"
    assert client.answer.headers["x-router-backend"] == second.pool.spec.name
    second.goes_on(event("lo"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert client.answer.body == event("Hel") + event("lo") + event(finish="stop") + DONE
    assert kinds(book) == [("superseded", "first"), ("ok", "hedge")]
    assert book.records[0].error is None
    book.at_rest()


async def test_the_first_backend_answers_all_the_same(book: Playbook) -> None:
    client, first, second = await late(book)
    first.streams(event("Hello"))
    assert not in_use(second)
    assert client.answer.headers["x-router-backend"] == first.pool.spec.name
    first.goes_on(event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert kinds(book) == [("superseded", "hedge"), ("ok", "first")]
    book.at_rest()


async def test_the_first_one_fails_and_the_second_one_goes_on(book: Playbook) -> None:
    client, first, second = await late(book)
    first.answers(500, b'{"error":{"message":"oh"}}')
    await book.turn()
    assert not client.heard
    second.streams(event("Hello"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert kinds(book) == [("server_error", "first"), ("ok", "hedge")]
    book.at_rest()


async def test_the_second_one_fails_and_the_first_one_goes_on(book: Playbook) -> None:
    client, first, second = await late(book)
    second.answers(500, b'{"error":{"message":"oh"}}')
    first.streams(event("Hello"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert kinds(book) == [("server_error", "hedge"), ("ok", "first")]
    book.at_rest()


async def test_both_fail_and_a_third_one_is_asked(book: Playbook) -> None:
    client, first, second = await late(book)
    second.answers(500, b'{"error":{"message":"oh"}}')
    first.answers(500, b'{"error":{"message":"oh"}}')
    await book.turn()
    third = book.asked
    assert third not in (first, second)
    third.streams(event("Hello"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert kinds(book) == [("server_error", "hedge"), ("server_error", "first"), ("ok", "retry")]
    book.at_rest()


async def test_the_client_leaves(book: Playbook) -> None:
    client, first, second = await late(book)
    client.leave()
    assert not in_use(first)
    assert not in_use(second)
    assert sorted(kinds(book)) == [("client_gone", "first"), ("client_gone", "hedge")]
    book.at_rest()


async def test_a_backend_that_is_found_dead_loses_its_hedge_too(book: Playbook) -> None:
    _, first, second = await late(book)
    book.app.lifecycle.backend_refused(second.pool.spec.name)
    assert not in_use(second)
    first.streams(event("Hello"), event(finish="stop"), DONE, end=True)
    assert kinds(book) == [("unreachable", "hedge"), ("ok", "first")]
    book.at_rest()


async def test_the_first_one_does_not_even_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow waits for a connection, not for an answer: it is led to the second attempt all the same."""
    book = Playbook(monkeypatch, configuration(ROUND_ROBIN + HEDGE, NAMES))
    for _ in range(6):
        await answered(book)
    for backend in book.backends.values():
        backend.gets_lost()
        monkeypatch.setattr(backend.pool, "take", lambda now_s: None)
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    first = next(iter(book.app.lifecycle.live)).lease
    assert first is not None
    for name, backend in book.backends.items():
        if name != first.backend:
            backend.is_found()
    book.advance(0.9)
    await book.turn()
    second = book.asked
    second.streams(event("Hello"), event(finish="stop"), DONE, end=True)
    await book.turn()
    assert client.answer.whole
    assert kinds(book) == [("superseded", "first"), ("ok", "hedge")]
    book.backends[first.backend].is_found()
    await book.turn()
    book.at_rest()


async def test_a_stream_that_a_hedge_began_is_gone_on_with_elsewhere(book: Playbook) -> None:
    client, _, second = await late(book)
    second.streams(event("Hel"))
    second.dies()
    await book.turn()
    third = book.asked
    third.streams(event("lo"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert [kind for _, kind in kinds(book)] == ["first", "hedge", "continue"]
    book.at_rest()


@pytest.mark.parametrize(
    "request_",
    [
        chat(),
        post("/v1/responses", orjson.dumps({"model": "m", "input": "Hi", "stream": True})),
        post("/v1/embeddings", orjson.dumps({"model": "m", "input": "Hi"})),
    ],
    ids=["whole", "responses", "embeddings"],
)
async def test_some_requests_are_not_hedged(book: Playbook, request_: bytes) -> None:
    client = book.client()
    client.send(request_)
    await book.turn()
    book.advance(5.0)
    await book.turn()
    assert sum(map(in_use, book.backends.values())) == 1
    client.leave()
    book.at_rest()


async def test_nothing_is_hedged_unless_the_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Playbook(monkeypatch, configuration(ROUND_ROBIN, NAMES))
    for _ in range(6):
        await answered(book)
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    book.advance(5.0)
    await book.turn()
    assert sum(map(in_use, book.backends.values())) == 1
    client.leave()


async def test_the_client_pays_once(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Playbook(monkeypatch, configuration(ROUND_ROBIN + HEDGE, NAMES))
    for _ in range(6):
        await answered(book)
    client, _, second = await late(book)
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    second.streams(event("Hello"), event(finish="stop"), event(choices=[], usage=usage), DONE, end=True)
    assert client.answer.whole
    record = book.records[0]
    assert (record.prompt_tokens, record.output_tokens) == (7, 3)
