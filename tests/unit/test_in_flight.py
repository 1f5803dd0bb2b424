"""Requests on their way, as operators see them, from the last byte of the request to the last byte of the answer."""

from __future__ import annotations

import pytest

from router import clock
from router.gateway.in_flight import in_flight
from tests.support.playbook import DONE, HEAD, Playbook, chat, configuration, event, whole


def seen(book: Playbook, most: int = 10) -> list[dict[str, object]]:
    return in_flight(book.app.lifecycle.live, clock.monotonic_s(), most)[0]


async def test_a_stream_waits_for_its_first_token_and_then_flows(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True, max_tokens=9))
    await book.turn()
    (request,) = seen(book)
    assert (request["phase"], request["model"], request["stream"]) == ("first token", "m", True)
    assert request["backend"] == book.asked.pool.spec.name
    assert request["region"] == str(request["backend"]).partition("/")[0]
    assert (request["attempts"], request["ttft_s"], request["output_tokens"]) == (1, None, 0)
    book.asked.streams(event("Hel"), event("lo"))
    (request,) = seen(book)
    assert (request["phase"], request["output_tokens"]) == ("stream", 2)
    assert request["ttft_s"] is not None
    book.asked.goes_on(event(finish="stop"), DONE, end=True)
    assert seen(book) == []
    book.at_rest()


async def test_a_whole_answer_and_a_second_attempt(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    first = book.asked
    assert [r["phase"] for r in seen(book)] == ["answer"]
    first.dies()
    await book.turn()
    (request,) = seen(book)
    assert (request["phase"], request["attempts"]) == ("answer", 2)
    assert request["backend"] not in (None, first.pool.spec.name)
    book.asked.answers(body=whole())
    book.at_rest()


@pytest.fixture
async def narrow(monkeypatch: pytest.MonkeyPatch) -> Playbook:
    """One backend with one place."""
    text = configuration(HEAD, ("us-east/a",)).replace('engine = "vllm"', 'engine = "vllm"\nmax_inflight = 1')
    return Playbook(monkeypatch, text)


async def test_who_finds_no_place_waits_at_no_backend(narrow: Playbook) -> None:
    clients = [narrow.client() for _ in range(3)]
    for client in clients:
        narrow.now_s += 0.1
        client.send(chat())
    await narrow.turn()
    found, count = in_flight(narrow.app.lifecycle.live, clock.monotonic_s(), 2)
    assert (len(found), count) == (2, 3), "the oldest two of three"
    assert [r["phase"] for r in seen(narrow)] == ["answer", "place", "place"]
    assert [r["backend"] for r in seen(narrow)] == ["us-east/a", None, None]
    ages = [float(str(r["age_s"])) for r in seen(narrow)]
    assert ages == sorted(ages, reverse=True)
    for client in reversed(clients):
        client.leave()
    assert seen(narrow) == []
