"""Quota held ahead of need: spent without asking, given back when idle, never more than the limit, safe from crashes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Self

import pytest

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Key, Refusal, Reservation
from router.store.shared import SharedStore
from tests.integration.store.routers import acquainted, eventually, key_of, router
from tests.support.stopwatch import Stopwatch
from tests.support.valkey import Valkey


async def take(store: SharedStore, key: Key, tokens: int = 10) -> Reservation | Refusal:
    taken = store.reserve_now(key, Amounts(1, tokens), "r", time.monotonic())
    return await store.reserve(key, Amounts(1, tokens), "r") if taken is None else taken


async def used(store: SharedStore, key: Key) -> dict[str, float]:
    return {s.limit: s.used + s.held for s in await store.quota(key)}


async def make_busy(store: SharedStore, key: Key) -> None:
    """Demand until the key has an allowance."""

    async def held() -> bool:
        taken = await take(store, key)
        assert isinstance(taken, Reservation)
        store.settle(taken, Amounts(1, 10))
        return taken.source == "allowance"

    await eventually(held)


@pytest.fixture
def clean(shared_valkey: Valkey) -> Valkey:
    shared_valkey.command("FLUSHALL")
    return shared_valkey


async def test_one_router_sells_exactly_the_limit(clean: Valkey) -> None:
    plan = Plan("default", requests_per_minute=100, tokens_per_minute=10**6, concurrent=1000)
    key = key_of(plan)
    async with router(clean.url, plan) as store:
        began_s = time.monotonic()
        let_in = 0
        while time.monotonic() - began_s < 2.0:
            let_in += isinstance(await take(store, key), Reservation)
            await asyncio.sleep(0.001)
        most = 100 + (time.monotonic() - began_s) * 100 / 60
        assert most - 3 <= let_in <= most


async def test_two_routers_sell_exactly_the_limit(clean: Valkey) -> None:
    plan = Plan("default", tokens_per_minute=100_000)
    key = key_of(plan)
    async with router(clean.url, plan) as one, router(clean.url, plan, name="two") as two:
        await acquainted(one, two)
        sold = refused = 0
        began_s = time.monotonic()

        async def spend(store: SharedStore) -> None:
            nonlocal sold, refused
            while time.monotonic() - began_s < 2.0 or refused < 100:  # however long it takes to sell it all
                taken = await take(store, key, 100)
                sold += 100 if isinstance(taken, Reservation) else 0
                refused += isinstance(taken, Refusal) and taken.limit == "tokens"
                if isinstance(taken, Reservation):
                    store.settle(taken, Amounts(1, 100))
                await asyncio.sleep(0.001)

        await asyncio.gather(*(spend(store) for store in (one, two) for _ in range(8)))
        most = 100_000 + (time.monotonic() - began_s) * 100_000 / 60
        assert most - 1500 <= sold <= most


async def test_an_idle_router_gives_everything_back(clean: Valkey) -> None:
    plan = Plan("default", requests_per_minute=6000, tokens_per_minute=6000, concurrent=200)
    key = key_of(plan)
    async with router(clean.url, plan) as store:
        held = [await take(store, key, 20) for _ in range(100)]
        for taken in held:
            assert isinstance(taken, Reservation)
            store.settle(taken, None)

        async def all_back() -> bool:
            now = await used(store, key)
            return now == {"requests": 0, "tokens": 0, "concurrent": 0}

        await eventually(all_back)


async def test_what_is_held_is_given_back_at_the_end(clean: Valkey) -> None:
    plan = Plan("default", requests_per_minute=60_000, tokens_per_minute=60_000, concurrent=200)
    key = key_of(plan)
    async with router(clean.url, plan, name="watcher") as watcher:
        async with router(clean.url, plan) as store:
            await make_busy(store, key)
            assert (await used(watcher, key))["concurrent"] > 0
        assert (await used(watcher, key))["concurrent"] == 0
        assert clean.command("ZRANGE", "{mr}:routers", "0", "-1").count(b"watcher-") == 1
        assert b"$10\r\nr-" not in clean.command("ZRANGE", "{mr}:routers", "0", "-1")


async def test_the_slots_of_a_killed_router_are_free_after_a_lease(clean: Valkey) -> None:
    plan = {"concurrent": 40, "requests_per_minute": 10**6}
    task = {
        "url": clean.url,
        "name": "victim",
        "plan": plan,
        "run_s": 600,
        "workers": 40,
        "tokens": [1, 1],
        "used": [1, 1],
        "hold_s": 1000,
        "pause_s": 0,
        "lease_s": 2.0,
    }
    key = key_of(Plan("default", **plan))
    async with router(clean.url, key.plan, name="survivor", lease_s=2.0) as store:
        victim = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.store.spender",
            json.dumps(task),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert victim.stdin is not None
        victim.stdin.write(b"%f\n" % time.time())
        try:

            async def all_taken() -> bool:
                return (await used(store, key))["concurrent"] == 40

            await eventually(all_taken)
            await asyncio.sleep(2.5)  # longer than the lease: it is renewed while its router lives
            assert await all_taken()
            assert isinstance(await take(store, key), Refusal)
        finally:
            victim.kill()
            await victim.wait()
        watch = Stopwatch(clean.pid)

        async def let_in() -> bool:
            return isinstance(await take(store, key), Reservation)

        await eventually(let_in)
        assert watch.elapsed_s <= 2.0 + 0.5
        assert (await used(store, key))["concurrent"] == 1


async def test_a_reservation_that_is_cancelled_leaves_nothing_behind(clean: Valkey) -> None:
    """At every step of the event loop at which a request can be cancelled."""
    plan = Plan("default", requests_per_minute=10**6, tokens_per_minute=10**6, concurrent=50)
    key = key_of(plan)
    async with router(clean.url, plan) as store:
        for steps in range(40):
            task = asyncio.get_running_loop().create_task(store.reserve(key, Amounts(1, 1000), "r"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            try:
                taken = await task
            except asyncio.CancelledError:
                continue
            assert isinstance(taken, Reservation)
            store.settle(taken, None)

        async def nothing_left() -> bool:
            now = await used(store, key)
            return now["concurrent"] == 0 and now["requests"] == 0 and now["tokens"] == 0

        await eventually(nothing_left)


async def test_a_client_that_hammers_does_not_reach_the_store_every_time(clean: Valkey) -> None:
    plan = Plan("default", requests_per_minute=1)
    key = key_of(plan)
    async with router(clean.url, plan) as store:
        await take(store, key)
        before = commands(clean)
        answers = [await take(store, key) for _ in range(500)]
        assert all(isinstance(a, Refusal) and a.limit == "requests" for a in answers)
        assert commands(clean) - before < 250


def commands(valkey: Valkey) -> int:
    text = valkey.command("INFO", "commandstats").decode()
    line = next(line for line in text.splitlines() if line.startswith("cmdstat_evalsha:"))
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_the_path_with_an_allowance_is_synchronous_and_short(clean: Valkey) -> None:
    plan = Plan("default", requests_per_minute=10**8, tokens_per_minute=10**10, concurrent=10**5)
    key = key_of(plan)
    async with router(clean.url, plan) as store:
        await make_busy(store, key)
        fewest = 10**9
        for _ in range(30):
            with Calls() as calls:
                for _ in range(20):
                    taken = store.reserve_now(key, Amounts(1, 10), "r", time.monotonic())
                    if taken is None:
                        break
                    store.settle(taken, Amounts(1, 10))
                else:
                    assert isinstance(taken, Reservation)
                    fewest = min(fewest, calls.count)
            await asyncio.sleep(0.01)
        assert fewest <= 20 * CALLS_MAX


#: calls of Python and C functions for a reservation and its settlement from an allowance
CALLS_MAX = 20


class Calls:
    """Counts the calls of functions within it, which does not depend on the machine as time does."""

    count = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _seen(self, frame: object, event: str, arg: object) -> None:
        self.count += event in ("call", "c_call")
