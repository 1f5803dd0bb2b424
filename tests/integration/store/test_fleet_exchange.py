"""Routers hear what the others have in flight."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from router.config import Config, Plan
from router.store.fleet_exchange import FRESH_S, STALE_S, FleetExchange
from router.store.open import open_store
from router.store.shared import SharedStore
from tests.integration.store.routers import eventually, router
from tests.support.valkey import Valkey

Counts = dict[str, tuple[int, int]]


def exchange_of(store: SharedStore, counts: Counts, heard: Counts) -> FleetExchange:
    return FleetExchange(store, lambda: counts, heard.update, monotonic_s=time.monotonic)


@contextlib.asynccontextmanager
async def running(*exchanges: FleetExchange) -> AsyncIterator[None]:
    for exchange in exchanges:
        await exchange.start()
    try:
        yield
    finally:
        for exchange in exchanges:
            await exchange.stop()


async def test_each_hears_the_sum_of_the_others_and_not_itself(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    url = shared_valkey.url
    async with router(url, name="a") as a, router(url, name="b") as b, router(url, name="c") as c:
        counts: list[Counts] = [{"eu/x": (3, 100), "us/y": (0, 0)}, {"eu/x": (2, 50), "us/z": (1, 0)}, {}]
        heard: list[Counts] = [{}, {}, {}]
        exchanges = [exchange_of(s, n, h) for s, n, h in zip((a, b, c), counts, heard, strict=True)]
        async with running(*exchanges):
            await eventually(lambda: heard[2] == {"eu/x": (5, 150), "us/z": (1, 0)})
            await eventually(lambda: heard[0] == {"eu/x": (2, 50), "us/z": (1, 0)})
            await eventually(lambda: heard[1] == {"eu/x": (3, 100)})
            counts[1].clear()  # b has nothing in flight any more: the others hear zeros once
            await eventually(lambda: heard[0] == {"eu/x": (0, 0), "us/z": (0, 0)})


async def test_a_router_that_dies_or_a_store_that_goes_away_fades_out(valkey: Valkey) -> None:
    async with router(valkey.url, name="a") as a, router(valkey.url, name="b") as b:
        now_s = 100.0
        said: list[Counts] = []
        here = FleetExchange(a, dict, lambda counts: said.append(dict(counts)), monotonic_s=lambda: now_s)
        async with running(here):
            await exchange_of(b, {}, {}).publish({"eu/x": (8, 800)})
            await eventually(lambda: bool(said) and said[-1] == {"eu/x": (8, 800)})
            valkey.kill()
            now_s += FRESH_S + (STALE_S - FRESH_S) / 2
            await eventually(lambda: 0 < said[-1]["eu/x"][0] < 8)  # little by little
            now_s += STALE_S
            await eventually(lambda: said[-1] == {})
            assert said.count({"eu/x": (0, 0)}) == 1, "told once that nothing is left"


async def test_alone_there_is_nothing_to_exchange() -> None:
    store = open_store(Config(plans={"default": Plan("default")}), router_name="a")
    exchange = FleetExchange(store, dict, lambda _: None, monotonic_s=time.monotonic)
    await exchange.start()
    await exchange.publish({"eu/x": (1, 1)})
    assert exchange.peers() == {}
    await exchange.stop()
