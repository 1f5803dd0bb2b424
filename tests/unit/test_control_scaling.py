"""The owner of everything about how many backends run: routers of a store know who waits in the others."""

from __future__ import annotations

import pytest

from tests.support.playbook import HEAD, Playbook, chat, configuration


async def test_all_routers_of_a_store_know_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Playbook(monkeypatch, configuration(HEAD + "\n[models.m]\nmin = 0\n", ("us-east/a",)))
    book.app.lifecycle.holding.wake = str
    book.app.fleet.set_asleep("us-east/a", True)
    clients = [book.client() for _ in range(2)]
    for client in clients:
        client.send(chat())
    await book.turn()
    capacity = book.app._scaling.capacity
    assert book.app._counts()["waiting m"] == (2, 0)
    book.app._heard({"waiting m": (5, 0), "us-east/a": (0, 0), "eu-west/unknown": (3, 100)})
    (group,) = capacity.groups()
    assert group.asked.waiting == 7
    book.app._heard({"waiting m": (0, 0)})
    book.now_s += 1.0
    assert capacity.groups()[0].asked.waiting == 2
    for client in clients:
        client.leave()
    book.at_rest()
