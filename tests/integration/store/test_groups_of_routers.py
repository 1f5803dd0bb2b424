"""Limits of groups over several routers, and what they cost the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import pytest

from router.config import AllSection, Plan, Tenant
from router.core.limits import NOTHING, REQUESTS, SLOTS, Amounts
from router.core.scopes import ALL, MODEL, TENANT
from router.store import together
from router.store.base import Holder, Key, Refusal, Reservation
from router.store.groups import LimitGroup
from router.store.shared import SharedStore
from tests.integration.store.routers import acquainted, eventually, key_of, router
from tests.support.valkey import Valkey
from tests.support.valkeys import cluster_url, valkey_cluster

FREE = Plan("default", requests_per_minute=1_000_000, tokens_per_minute=10**9, concurrent=10_000)


@pytest.fixture
def clean(shared_valkey: Valkey) -> Valkey:
    shared_valkey.command("FLUSHALL")
    return shared_valkey


def groups(**limits: int) -> list[LimitGroup]:
    return [
        LimitGroup.of(TENANT, "acme", Tenant("acme", **limits)),  # type: ignore[arg-type]
        LimitGroup.of(MODEL, "m", Tenant("m", **limits)),  # type: ignore[arg-type]
        LimitGroup.of(ALL, "all", AllSection(**limits)),  # type: ignore[arg-type]
    ]


async def take(store: SharedStore, holders: Sequence[Holder], tokens: int = 10) -> Reservation | Refusal:
    """Ask the limits. On a machine that stalls, the store may be too late to be asked: then it is asked again."""
    async with asyncio.timeout(30):
        while True:
            now_s = time.monotonic()
            taken = together.reserve_now(store, holders, Amounts(1, tokens), "r", now_s)
            if taken is None:
                taken = await together.reserve(store, holders, Amounts(1, tokens), "r", now_s)
            if isinstance(taken, Reservation) or taken.limit != "store":
                return taken
            await asyncio.sleep(0.05)


async def one(store: SharedStore, holders: Sequence[Holder]) -> None:
    taken = await take(store, holders)
    assert isinstance(taken, Reservation)
    together.settle(store, taken, Amounts(1, 10))


def calls(server: Valkey) -> int:
    """Scripts that this server ran so far."""
    lines = server.command("INFO", "commandstats").decode(errors="replace").splitlines()
    stats = [line for line in lines if line.startswith(("cmdstat_evalsha:", "cmdstat_eval:"))]
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in stats)


async def test_two_routers_sell_exactly_the_limit_of_a_tenant(clean: Valkey) -> None:
    limited = groups(tokens_per_minute=100_000)[:1]
    async with router(clean.url, FREE) as one, router(clean.url, FREE, name="two") as two:
        await acquainted(one, two)
        sold, refused = 0, 0
        began_s = time.monotonic()

        async def spend(store: SharedStore, key: Key) -> None:
            nonlocal sold, refused
            while time.monotonic() - began_s < 2.0 or refused < 100:  # however long it takes to sell it all
                taken = await take(store, (key, *limited), 100)
                if isinstance(taken, Reservation):
                    sold += 100
                    together.settle(store, taken, Amounts(1, 100))
                else:
                    assert taken.holder is limited[0]
                    refused += 1
                await asyncio.sleep(0.001)

        await asyncio.gather(*(spend(store, key_of(FREE, f"k{n}")) for store in (one, two) for n in range(8)))
        most = 100_000 + (time.monotonic() - began_s) * 100_000 / 60
        assert most - 2500 <= sold <= most


async def test_slots_of_a_tenant_hold_over_two_routers(clean: Valkey) -> None:
    limited = groups(concurrent=30)[:1]
    async with router(clean.url, FREE) as one, router(clean.url, FREE, name="two") as two:
        await acquainted(one, two)
        held: list[tuple[SharedStore, Reservation]] = []
        for number in range(40):
            for store in (one, two):
                taken = await take(store, (key_of(FREE, f"k{number}"), *limited))
                if isinstance(taken, Reservation):
                    held.append((store, taken))
        assert 26 <= len(held) <= 30
        for store, taken in held:
            together.settle(store, taken, None)

        async def free() -> bool:
            left = [await store.quota(limited[0]) for store in (one, two)]
            return all(state.used <= 4 for states in left for state in states)

        await eventually(free)


async def scripts_of(server: Valkey, holders: Sequence[Holder], n: int, pause_s: float) -> float:
    """Scripts for each of n requests, heartbeats included."""
    async with router(server.url, FREE) as store:
        for _ in range(5):
            await one(store, holders)
            await asyncio.sleep(pause_s)
        before = calls(server)
        for _ in range(n):
            await one(store, holders)
            await asyncio.sleep(pause_s)
        return (calls(server) - before) / n


@pytest.mark.parametrize(("n", "pause_s"), [(200, 0.02), (10, 0.6)])
async def test_three_groups_cost_less_than_one_script_for_each_request(
    clean: Valkey, valkey: Valkey, n: int, pause_s: float
) -> None:
    """Of a key that is busy, and of one that asks for each request: what is more than for the key alone. Both are
    measured in the same time, because much of what a router says at the store is said at times."""
    key, limited = key_of(FREE), groups(requests_per_minute=100_000, tokens_per_minute=10**7)
    alone, together_with = await asyncio.gather(
        scripts_of(clean, (key,), n, pause_s), scripts_of(valkey, (key, *limited), n, pause_s)
    )
    assert together_with - alone <= 1.2


async def test_a_cluster_may_keep_the_accounts_on_different_nodes() -> None:
    with valkey_cluster(3) as nodes:
        limited = groups(requests_per_minute=5)
        async with router(cluster_url(nodes), FREE) as store:
            key = key_of(FREE)
            let_in = [isinstance(await take(store, (key, *limited)), Reservation) for _ in range(7)]
            assert let_in == [True] * 5 + [False] * 2
            for holder in limited:
                (state,) = await store.quota(holder)
                assert 4 <= state.used <= 5


async def test_what_is_held_ahead_is_not_shown_as_used(clean: Valkey) -> None:
    limited = groups(requests_per_minute=600, tokens_per_minute=600_000)
    async with router(clean.url, FREE) as store:
        taken = await take(store, (key_of(FREE), *limited))
        assert isinstance(taken, Reservation)
        together.settle(store, taken, Amounts(1, 10))

        async def holds() -> bool:
            return min(store._ledger.purse(holder).balance[0] for holder in limited) > 0

        await eventually(holds)
        for holder in limited:
            assert {s.limit: s.used for s in await store.quota(holder)}["requests"] <= 1
    async with router(clean.url, FREE) as store:  # what was held came back when the router stopped
        for holder in limited:
            assert {s.limit: s.used for s in await store.quota(holder)}["requests"] <= 1


async def test_what_all_routers_hold_is_told_apart_from_what_is_in_flight(clean: Valkey) -> None:
    """Whichever of them is asked: of places, rates and sums."""
    plan = Plan("default", concurrent=40, requests_per_minute=6000, budget_usd_month=10.0)
    key = key_of(plan)
    async with router(clean.url, plan) as one, router(clean.url, plan, name="two") as two:
        stores = (one, two)

        async def both_hold() -> bool:
            for store in stores:  # a busy key holds places ahead
                again = await store.reserve(key, Amounts(1, 10, 0, 1000), "r")
                assert isinstance(again, Reservation), again
                store.settle(again, Amounts(1, 10, 0, 1000))
            return all(min(store.held().get(key.id, NOTHING)[i] for i in (REQUESTS, SLOTS)) > 0 for store in stores)

        await eventually(both_hold)
        taken = [(store, await store.reserve(key, Amounts(1, 10, 0, 1000), "r")) for store in stores for _ in range(3)]

        async def told(asked: SharedStore, other: SharedStore) -> bool:
            found = {s.limit: s for s in await asked.quota(key, other.held().get(key.id, NOTHING))}
            assert all(s.used + s.remaining == s.max for s in found.values()), found
            return found["concurrent"].used == 6 and found["concurrent"].held > 0

        for asked, other in (stores, stores[::-1]):
            await eventually(partial(told, asked, other))
        for store, each in taken:
            assert isinstance(each, Reservation)
            store.settle(each, Amounts(1, 10, 0, 1000))


async def test_requests_that_never_fit_take_no_place_from_others(clean: Valkey) -> None:
    """A tenant asks for more than its whole limit, over and over; another one has the only places meanwhile."""
    (tenant, _, _), (*_, everybody) = groups(tokens_per_minute=1_000), groups(concurrent=2)
    async with router(clean.url, FREE) as store:
        hopeless, small = key_of(FREE, "hopeless"), key_of(FREE, "small")
        for _ in range(8):
            asked = [take(store, (hopeless, tenant, everybody), 5_000) for _ in range(16)]
            *refused, served = await asyncio.gather(*asked, take(store, (small, everybody)))
            assert all(isinstance(answer, Refusal) and answer.holder is tenant for answer in refused)
            assert isinstance(served, Reservation), served
            together.settle(store, served, Amounts(1, 10))
