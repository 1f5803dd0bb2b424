"""A store that loses its data does not give away a second helping: routers put back where the accounts stood."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from router.config import Plan
from router.core.limits import Amounts
from router.core.periods import DAY
from router.core.spending import Charged
from router.store.base import Key, Refusal, Reservation
from router.store.shared import SharedStore
from router.store.spend_book import Batch, day_at
from tests.integration.store.routers import acquainted, beats, eventually, key_of, router
from tests.support.valkey import Valkey


async def ask(store: SharedStore, key: Key, tokens: int = 0, microusd: int = 0) -> Reservation | Refusal:
    taken = store.reserve_now(key, Amounts(1, tokens, 0, microusd), "r", time.monotonic())
    return await store.reserve(key, Amounts(1, tokens, 0, microusd), "r") if taken is None else taken


async def exhaust(store: SharedStore, key: Key) -> int:
    """How many requests are let in until one is not."""
    admitted = 0
    while isinstance(taken := await ask(store, key), Reservation):
        admitted += 1
        store.settle(taken, Amounts(1, 0))
    return admitted


@pytest.mark.parametrize("loss", ["flushall", "evicted", "restart"])
async def test_what_was_used_stays_used(valkey: Valkey, loss: str) -> None:
    plan = Plan("default", requests_per_minute=60, budget_usd_month=1.0)
    key, idle = key_of(plan), key_of(plan, "k2")
    began_s = time.monotonic()
    async with router(valkey.url, plan, name="a") as a, router(valkey.url, plan, name="b") as b:
        admitted = await exhaust(a, key)
        for _ in range(30):
            taken = await ask(b, idle, microusd=20_000)
            assert isinstance(taken, Reservation)
            b.settle(taken, Amounts(microusd=20_000))
        await asyncio.sleep(0.3)  # settlements arrive
        if loss == "flushall":
            valkey.command("FLUSHALL")
        elif loss == "evicted":
            valkey.command("DEL", "mr:{k1}:q", "mr:{k2}:q")
        else:
            valkey.kill()
            await eventually(lambda: a.state == b.state == "down")
            valkey.start()
            await eventually(lambda: a.state == b.state == "up")
        admitted += await exhaust(a, key)
        await beats(a, b)
        admitted += await exhaust(b, key) + await exhaust(a, key)
        elapsed_s = time.monotonic() - began_s
        # the budget too, which no time gives back, and through a router that never saw the account
        if loss != "evicted":
            spent = {s.limit: s.used + s.held for s in await a.quota(idle)}["budget"]
            assert spent == pytest.approx(0.6, abs=0.001)
        else:
            assert isinstance(await ask(b, idle, microusd=10_000), Reservation)
            spent = {s.limit: s.used + s.held for s in await a.quota(idle)}["budget"]
            assert spent >= 0.6
    assert admitted <= 60 + elapsed_s + 2, "burst + rate x time"


async def test_any_number_of_losses_gives_away_no_more_than_what_nobody_had_seen(valkey: Valkey) -> None:
    """Three routers spend one key as fast as they can while the store is emptied again and again."""
    plan = Plan("default", requests_per_minute=1200, tokens_per_minute=1_200_000)
    key = key_of(plan)
    admitted = tokens = 0
    stop = asyncio.Event()
    rng = random.Random(7)

    async def spend(store: SharedStore) -> None:
        nonlocal admitted, tokens
        while not stop.is_set():
            taken = await ask(store, key, 1000)
            if isinstance(taken, Reservation):
                admitted += 1
                used = rng.randint(500, 1000)
                tokens += used
                await asyncio.sleep(0.005)
                store.settle(taken, Amounts(1, used))
            else:
                await asyncio.sleep(0.02)

    began_s = time.monotonic()
    async with (
        router(valkey.url, plan, name="a") as a,
        router(valkey.url, plan, name="b") as b,
        router(valkey.url, plan, name="c") as c,
    ):
        await acquainted(a, b, c)
        spenders = [asyncio.create_task(spend(s)) for s in (a, b, c) for _ in range(3)]
        losses = 0
        while time.monotonic() - began_s < 12:
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            valkey.command("FLUSHALL")
            losses += 1
        stop.set()
        await asyncio.gather(*spenders)
    elapsed_s = time.monotonic() - began_s
    # nobody saw the last moment before each loss: at most 0.3 s of what the rate admits
    unseen = losses * 0.3 * 20
    assert admitted <= 1200 + 20 * elapsed_s + unseen
    assert tokens <= 1000 * (1200 + 20 * elapsed_s + unseen)


async def test_a_reset_is_not_undone_by_a_loss(valkey: Valkey) -> None:
    plan = Plan("default", requests_per_minute=60)
    key = key_of(plan)
    async with router(valkey.url, plan) as store:
        await exhaust(store, key)
        await asyncio.sleep(0.2)
        await store.reset_quota(key)
        valkey.command("FLUSHALL")
        await beats(store)
        assert await exhaust(store, key) >= 59


@pytest.mark.parametrize("dropped", [False, True])
async def test_a_reset_by_another_router_is_not_undone_by_a_loss(valkey: Valkey, dropped: bool) -> None:
    plan = Plan("default", requests_per_minute=60, budget_usd_month=1.0)
    key, today = key_of(plan), day_at(time.time())
    spent = Batch("b-1", today, {}, {DAY.name: [Charged(key.id, 500_000, 1_000_000)]})
    async with router(valkey.url, plan, name="a") as a, router(valkey.url, plan, name="b") as b:
        taken = await ask(b, key, microusd=500_000)
        assert isinstance(taken, Reservation)
        b.settle(taken, Amounts(microusd=500_000))
        await b.spending.add(spent, time.time())
        await beats(a, b)
        if dropped:
            b._ledger._put_away(time.monotonic() + 1000)
            assert key.id not in b._ledger.purses
        await a.reset_quota(key)
        await a.spending.forget(key.id, time.time())
        await beats(a, b)
        valkey.command("FLUSHALL")
        await beats(a, b)
        assert {state.limit: state.used for state in await a.quota(key)}["budget"] == 0
        assert await a.spending.spent([key.id], DAY, [today]) == [[None]]
