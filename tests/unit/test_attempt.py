"""One try on one backend: connections, the option that an engine refuses, and what is told in the end."""

from __future__ import annotations

from tests.support.playbook import DONE, Playbook, chat, event, whole

PINNED = {"x_router_region": "eu-west"}


async def test_a_long_body_is_sent_beside_its_head(book: Playbook) -> None:
    text = "x" * 20_000
    client = book.client()
    client.send(chat(user=text))
    await book.turn()
    (sent,) = book.asked.asked
    head, _, body = sent.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert text.encode() in body


async def test_the_clients_own_headers_stay_with_the_router(book: Playbook) -> None:
    client = book.client()
    client.send(chat(headers={"authorization": "Bearer secret", "cookie": "c=1", "x_router_region": "eu-west"}))
    await book.turn()
    (sent,) = book.asked.asked
    assert b"secret" not in sent
    assert b"cookie" not in sent
    assert b"x-router-region" not in sent


async def test_an_engine_that_refuses_the_usage_option_is_asked_without_it(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True, headers=PINNED))
    await book.turn()
    backend = book.asked
    assert b'"include_usage":true' in backend.asked[0]
    backend.answers(400, b'{"error":{"message":"unknown field stream_options","type":"invalid_request_error"}}')
    await book.turn()
    assert b"include_usage" not in backend.asked[-1].rpartition(b"POST ")[2]
    backend.streams(event("Hi"), event(finish="stop"), DONE, end=True)
    assert client.answer.headers["x-router-attempts"] == "1", "it is one attempt"
    again = book.client()
    again.send(chat(stream=True, headers=PINNED))
    await book.turn()
    assert b"include_usage" not in backend.asked[-1].rpartition(b"POST ")[2], "it is remembered"
    backend.streams(event("Hi"), event(finish="stop"), DONE, end=True)
    assert again.answer.whole
    book.at_rest()


async def test_a_usage_that_was_not_asked_for_is_hidden_and_counts(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    book.asked.streams(
        event("Hi"),
        event(finish="stop"),
        b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}\n\n',
        DONE,
        end=True,
    )
    assert b"usage" not in client.answer.body
    record = book.records[0]
    assert (record.prompt_tokens, record.output_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])


async def test_a_connection_that_takes_too_long_is_tried_elsewhere(book: Playbook) -> None:
    book.backend("us-east/a").hangs = book.backend("us-east/b").hangs = True
    client = book.client()
    client.send(chat())
    await book.turn()
    assert book.asked is book.backend("eu-west/a")
    book.asked.answers(body=whole())
    assert client.answer.status == 200
    book.at_rest()


async def test_a_connection_made_for_a_client_that_left_serves_the_next(book: Playbook) -> None:
    client = book.client()
    client.send(chat(headers=PINNED))
    client.leave()
    await book.turn()
    backend = book.backend("eu-west/a")
    assert len(backend.connections) == 1
    other = book.client()
    other.send(chat(headers=PINNED))
    await book.turn()
    assert len(backend.connections) == 1
    backend.answers(body=whole())
    assert other.answer.status == 200
    book.at_rest()


async def test_what_the_health_of_a_backend_hears(book: Playbook) -> None:
    client = book.client()
    client.send(chat(headers=PINNED))
    await book.turn()
    book.asked.answers(500, b"boom")
    await book.turn()
    b = book.app.fleet.backends["eu-west/a"].reputation
    assert (b.failures_total, b.last_error) == (1, "server_error")
    assert [a.status for a in book.records[0].attempts] == [500]


async def test_a_stopping_router_says_goodbye_with_each_answer(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    book.app.lifecycle.say_goodbye()
    book.asked.answers(body=whole())
    assert client.answer.headers["connection"] == "close"


async def test_a_connection_whose_answer_began_before_the_goodbye_stays_for_one_more(book: Playbook) -> None:
    """Its head said that another request may follow, and that one may be on its way."""
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    book.asked.streams(event("Hello"))
    book.app.lifecycle.say_goodbye()
    book.app.server.gate.closing = True
    book.asked.goes_on(event(finish="stop"), DONE, end=True)
    await book.turn()
    assert "connection" not in client.answer.headers
    assert not client.wire.closed
    before = len(client.wire.written)
    client.send(chat())
    await book.turn()
    book.asked.answers(body=whole())
    await book.turn()
    assert b"connection: close\r\n" in client.wire.written[before:]
    assert client.wire.closed
