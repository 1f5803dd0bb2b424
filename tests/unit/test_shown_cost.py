"""The cost of an answer, told to the client where its plan allows it, and kept in the record."""

from __future__ import annotations

import pytest

from tests.support.legs import usage
from tests.support.playbook import DONE, HEAD, Playbook, chat, configuration, event, whole

PRICES = "[prices]\ndefault = { input = 100, output = 1000 }\n"
#: of a whole answer of the playbook: 7 prompt tokens, 3 output tokens
COST_USD = (7 * 100 + 3 * 1000) / 1e6


def book_of(monkeypatch: pytest.MonkeyPatch, text: str) -> Playbook:
    return Playbook(monkeypatch, configuration(f"{HEAD}\n{text}"))


async def one(book: Playbook) -> dict[str, str]:
    client = book.client()
    client.send(chat())
    await book.turn()
    book.asked.answers(body=whole())
    assert client.answer.status == 200
    book.at_rest()
    return dict(client.answer.headers)


async def test_a_plan_shows_what_an_answer_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, f"[plans.default]\nshow_cost = true\n{PRICES}")
    assert (await one(book))["x-router-cost"] == f"{COST_USD:.6f}"
    assert book.records[0].cost_usd == COST_USD


@pytest.mark.parametrize("text", [f"[plans.default]\n{PRICES}", "[plans.default]\nshow_cost = true\n"])
async def test_others_do_not(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    book = book_of(monkeypatch, text)
    assert "x-router-cost" not in await one(book)
    assert book.records[0].cost_usd == (COST_USD if PRICES in text else None)


async def test_a_stream_has_its_cost_in_the_record_only(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, f"[plans.default]\nshow_cost = true\n{PRICES}")
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    book.asked.streams(event("Hi"), event(finish="stop"), usage(7, 3), DONE, end=True)
    assert "x-router-cost" not in dict(client.answer.headers)
    await book.turn()
    assert book.records[0].cost_usd == COST_USD


async def test_who_is_refused_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, f"[plans.default]\nbudget_usd_month = 0.0001\nshow_cost = true\n{PRICES}")
    client = book.client()
    client.send(chat(max_tokens=1000))
    await book.turn()
    assert client.answer.status == 429
    assert (book.records[0].cost_usd, book.records[0].limit_never) == (None, True)
