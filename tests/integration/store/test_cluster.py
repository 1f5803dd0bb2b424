"""A cluster of three nodes: one that is away concerns its own keys only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Reservation
from router.store.shared import SharedStore
from tests.integration.store.routers import eventually, key_of, router
from tests.support.valkey import Valkey
from tests.support.valkeys import cluster_url, valkey_cluster

PLAN = Plan("default", requests_per_minute=60_000)
#: Nodes have a third of the slots each; this is where the routers' own keys are.
HOME = key_slot(b"mr") * 3 // 16384

#: By the store: now, or ahead of need, as routers ask it when answers take long.
GIVEN = {"store", "allowance"}


@pytest.fixture
def nodes() -> Iterator[list[Valkey]]:
    with valkey_cluster(3) as servers:
        yield servers


def key_on(node: int) -> str:
    return next(f"k{n}" for n in range(1000) if key_slot(f"k{n}".encode()) * 3 // 16384 == node)


async def source(store: SharedStore, key_id: str) -> str:
    key = key_of(PLAN, key_id)
    taken = store.reserve_now(key, Amounts(1, 1), "r", time.monotonic()) or await store.reserve(key, Amounts(1, 1), "r")
    assert isinstance(taken, Reservation)
    store.settle(taken, Amounts(1, 1))
    return taken.source


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_a_node_that_is_away_concerns_its_own_keys_only(nodes: list[Valkey], fault: str) -> None:
    away, stays = (n for n in range(3) if n != HOME)
    async with router(cluster_url(nodes), PLAN) as store:
        keys = {n: key_on(n) for n in range(3)}
        for key in keys.values():
            await eventually(lambda key=key: _is(store, key, *GIVEN))
        (nodes[away].kill if fault == "killed" else nodes[away].pause)()
        await eventually(lambda: _is(store, keys[away], "share"))
        good = 0  # in a row: a machine that stalls may keep any node from answering, but not each second
        async with asyncio.timeout(60):
            while good < 30:
                sources = await asyncio.gather(source(store, keys[stays]), source(store, keys[HOME]))
                good = good + 1 if set(sources) <= GIVEN else 0
                assert await source(store, keys[away]) == "share"
                await asyncio.sleep(0.03)
        await eventually(lambda: store.state == "up")
        (nodes[away].start if fault == "killed" else nodes[away].resume)()
        await eventually(lambda: _is(store, keys[away], *GIVEN))


async def _is(store: SharedStore, key: str, *wanted: str) -> bool:
    return await source(store, key) in wanted
