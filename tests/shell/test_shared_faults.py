"""Faults on purpose are shared: what one router's operator begins holds at every router that allows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router import clock
from router.control.shared_faults import SharedFaults
from router.core.types import BackendSpec, RegionSpec
from router.upstream.chaos import Chaos, InjectedFault
from router.upstream.pool import Network, Pools
from tests.support.shared_store import SharedStore

EAST, WEST = RegionSpec("us-east"), RegionSpec("us-west")
SPECS = tuple(
    BackendSpec(f"{region.name}/{name}", region, "http://127.0.0.1:1", models=("m",))
    for region, name in ((EAST, "a"), (EAST, "b"), (WEST, "a"))
)
REFUSE = InjectedFault("refuse", "us-east")


def router(store: SharedStore, *, allowed: bool = True) -> SharedFaults:
    pools = Pools(Network.new(clock.monotonic_s))
    pools.apply(SPECS)
    return SharedFaults(Chaos(pools, clock.monotonic_s), store, lambda: allowed)


@asynccontextmanager
async def routers(*those: SharedFaults) -> AsyncIterator[None]:
    yield
    for each in those:
        each.chaos.stop_all()  # their timers


def running(faults: SharedFaults) -> set[str]:
    return {fault.name for fault, _ in faults.chaos.running()}


async def test_a_fault_holds_at_every_router_that_allows_it(store: SharedStore) -> None:
    one, two, strict = router(store), router(store), router(store, allowed=False)
    async with routers(one, two):
        assert await one.begin(REFUSE, 60.0)
        for other in (two, strict):
            await other.sync()
        assert running(one) == running(two) == {"refuse:us-east"}
        assert running(strict) == set()
        ((fault, left_s),) = two.chaos.running()
        assert fault == REFUSE
        assert 59 < left_s <= 60
        assert await two.end(None)
        await one.sync()
        assert running(one) == set()
        assert await store.get_runtime() == {}


async def test_to_let_one_backend_off_leaves_its_siblings_in_it_everywhere(store: SharedStore) -> None:
    one, two = router(store), router(store)
    async with routers(one, two):
        await one.begin(REFUSE, 60.0)
        await two.sync()
        await two.end("us-east/a")
        await one.sync()
        assert running(one) == running(two) == {"refuse:us-east/b"}
        await one.end("us-east")
        assert running(one) == set()


async def test_without_the_store_it_holds_here_and_is_handed_on_later(store: SharedStore) -> None:
    one, two = router(store), router(store)
    async with routers(one, two):
        store.away = True
        assert not await one.begin(REFUSE, 60.0)
        await one.sync()
        assert running(one) == {REFUSE.name}
        store.away = False
        await one.sync()
        await two.sync()
        assert running(two) == {REFUSE.name}
        store.away = True
        assert not await two.end("us-east")
        await two.sync()
        assert running(two) == set()
        store.away = False
        await two.sync()
        await one.sync()
        assert running(one) == set()


async def test_what_is_over_or_cannot_be_read_is_taken_out_of_the_store(store: SharedStore) -> None:
    one = router(store)
    async with routers(one):
        await store.set_runtime("chaos:refuse:us-east", '{"kind":"refuse","target":"us-east","until_s":1}')
        await store.set_runtime("chaos:odd", "{")
        await store.set_runtime("drain:us-east", "1")
        await one.sync()
        assert running(one) == set()
        assert set(await store.get_runtime()) == {"drain:us-east"}


async def test_attempts_meet_the_faults_of_their_place_and_key(store: SharedStore) -> None:
    pools = Pools(Network.new(clock.monotonic_s))
    pools.apply(SPECS)
    chaos = Chaos(pools, clock.monotonic_s)
    chaos.start(InjectedFault("refuse", "us-east", key="key_1"), 60.0)
    chaos.start(InjectedFault("slow", "us-east/b", 4.0), 60.0)

    def met(backend: str, key: str | None) -> str | None:
        faults = pools[backend].faults
        return None if faults is None else faults.pool_for(key).fault

    assert [met(b, "key_1") for b in ("us-east/a", "us-east/b", "us-west/a")] == ["refuse", "slow", None]
    assert [met(b, None) for b in ("us-east/a", "us-east/b", "us-west/a")] == [None, "slow", None]
    chaos.stop_all()
    assert all(pool.faults is None for pool in pools)
