"""Answers that overtake each other, as they come over several connections: the last word is that of the store.

Each pipeline waits by chance before it is sent and before its answer is handed over, with a real Valkey between.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest

from router.core.params import Params
from router.core.periods import DAY
from router.core.spending import AccountSpent, Charged
from router.store.courier import Command
from router.store.fleet_exchange import FleetExchange
from router.store.keysync import RUNTIME, RUNTIME_KEPT
from router.store.redis import RedisLink
from router.store.shared import SharedStore
from router.store.spend_book import Batch, SharedSpendBook
from tests.integration.store.routers import eventually, router, store_on
from tests.support.valkey import Valkey

LATE_S = 0.02


class Shuffling(RedisLink):
    """A link whose questions and answers overtake each other."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(url)
        self._rng = random.Random(seed)
        self.calm = True

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        if not self.calm:
            await asyncio.sleep(self._rng.choice((0.0, self._rng.uniform(0.0, LATE_S))))
        replies = await super().run(commands)
        if not self.calm:
            await asyncio.sleep(self._rng.choice((0.0, self._rng.uniform(0.0, LATE_S))))
        return replies


class Holding(RedisLink):
    """A link that holds back one answer to a message of the routers."""

    gate: asyncio.Event | None = None

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        replies = await super().run(commands)
        if self.gate is not None and any(c.script is not None and c.script.name == "exchange" for c in commands):
            gate, self.gate = self.gate, None
            await gate.wait()
        return replies


@pytest.fixture
def clean(shared_valkey: Valkey) -> Valkey:
    shared_valkey.command("FLUSHALL")
    return shared_valkey


async def shuffled(store: SharedStore, link: Shuffling, *calls: Any) -> None:
    link.calm = False
    await asyncio.gather(*calls)
    link.calm = True


@pytest.mark.parametrize("seed", range(6))
async def test_a_router_remembers_the_shared_state_that_the_store_has(clean: Valkey, seed: int) -> None:
    """Several tasks set and read it: an answer from before a change does not take the change back."""
    link, rng = Shuffling(clean.url, seed), random.Random(seed)
    store = store_on(link)
    await store.start()
    try:
        calls: list[Any] = []
        for number in range(12):
            calls.append(store.set_runtime(f"drain:{number % 4}", rng.choice((None, str(number)))))
            calls.append(store.get_runtime())
        await shuffled(store, link, *calls)
        kept = dict(store._sync._runtime)
        assert kept == await store.get_runtime()
        clean.command("DEL", RUNTIME)
        assert await store.get_runtime() == kept, "it is put back"
        assert RUNTIME_KEPT not in kept
    finally:
        await store.stop()


@pytest.mark.parametrize("seed", range(6))
async def test_a_reset_of_spending_is_not_put_back_after_a_loss(clean: Valkey, seed: int) -> None:
    """Charges and resets meet; whatever the store has in the end is put back when it has lost that, and no more."""
    link, serial, now_s = Shuffling(clean.url, seed), itertools.count(), time.time()
    today = int(now_s // 86_400)
    store = store_on(link)
    await store.start()
    try:
        book = store.spending
        assert isinstance(book, SharedSpendBook)
        charged = {"day": (Charged("acme", 10, 1000),), "month": (Charged("acme", 10, 1000),)}
        calls = [
            book.forget("acme", now_s)
            if number % 4 == 3
            else book.add(Batch(f"{next(serial)}", today, {}, charged), now_s)
            for number in range(12)
        ]
        await shuffled(store, link, *calls)
        (before,) = await book.spent(["acme"], DAY, [today])
        clean.command("FLUSHALL")
        await link.run(book.put_back(now_s + 1))
        (after,) = await book.spent(["acme"], DAY, [today])
        spent = [each.microusd if isinstance(each, AccountSpent) else 0 for each in (*before, *after)]
        assert spent[0] == spent[1]
    finally:
        await store.stop()


async def test_an_answer_from_before_a_router_came_does_not_take_it_away(clean: Valkey) -> None:
    link = Holding(clean.url)
    store = store_on(link, name="listener")
    await store.start()
    try:
        async with router(clean.url, name="teller") as other:
            teller, listener = (
                FleetExchange(each, dict, lambda _: None, monotonic_s=time.monotonic, params=Params())
                for each in (other, store)
            )
            link.gate = gate = asyncio.Event()
            first = asyncio.ensure_future(listener.publish({}))
            await eventually(lambda: link.gate is None)
            await teller.publish({"eu/x": (3, 100)})
            await listener.publish({})
            assert listener.peers() == {"eu/x": (3, 100)}
            gate.set()
            await first
            assert listener.peers() == {"eu/x": (3, 100)}
    finally:
        await store.stop()
