"""Wishes are shared through a store that can go away. Drains stand for all of them."""

from __future__ import annotations

import pytest

from router import clock
from router.config import Plan
from router.control.drains import Drains
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec
from router.errors import RouterError
from router.store.memory import MemoryStore

EAST, WEST = RegionSpec("us-east"), RegionSpec("us-west")
SPECS = [
    BackendSpec("us-east/a", EAST, "http://h:1", models=("m",)),
    BackendSpec("us-east/b", EAST, "http://h:2", models=("m",)),
    BackendSpec("us-west/a", WEST, "http://h:3", models=("m",)),
]


class Shared(MemoryStore):
    """One store for several routers, which can go away."""

    away = False

    async def set_runtime(self, name: str, value: str | None) -> None:
        if self.away:
            raise RouterError("store_unavailable")
        await super().set_runtime(name, value)

    async def get_runtime(self) -> dict[str, str]:
        if self.away:
            raise RouterError("store_unavailable")
        return await super().get_runtime()


@pytest.fixture
def store() -> Shared:
    return Shared({"default": Plan("default")}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)


def router(store: Shared) -> tuple[Drains, Fleet]:
    fleet = Fleet(Params())
    fleet.apply(SPECS, 0.0)
    return Drains(fleet, store), fleet


def draining(fleet: Fleet) -> set[str]:
    return {b.name for b in fleet.backends.values() if b.draining}


async def test_while_the_store_is_away_a_wish_holds_here_and_is_shared_later(store: Shared) -> None:
    one, fleet_one = router(store)
    two, fleet_two = router(store)
    await one.set("us-west", True)
    await two.sync()
    store.away = True
    assert await one.set("us-east/a", True) is False
    assert draining(fleet_one) == {"us-east/a", "us-west/a"}
    for _ in range(3):
        await one.sync()
        await two.sync()
    assert draining(fleet_one) == {"us-east/a", "us-west/a"}, "nothing is taken back"
    assert draining(fleet_two) == {"us-west/a"}, "what was known is kept"
    store.away = False
    await one.sync()
    await two.sync()
    assert draining(fleet_two) == {"us-east/a", "us-west/a"}


async def test_a_store_that_is_away_at_the_start_stops_nothing(store: Shared) -> None:
    await store.set_runtime("drain:us-east/a", "1")
    store.away = True
    one, fleet = router(store)
    await one.start()
    assert draining(fleet) == set()
    store.away = False
    await one.sync()
    assert draining(fleet) == {"us-east/a"}
    await one.stop()


async def test_other_shared_state_is_left_alone(store: Shared) -> None:
    await store.set_runtime("something:else", "1")
    one, fleet = router(store)
    await one.sync()
    assert draining(fleet) == set()
    assert await store.get_runtime() == {"something:else": "1"}


async def test_a_store_that_comes_and_goes_is_said_once(store: Shared, caplog: pytest.LogCaptureFixture) -> None:
    one, _ = router(store)
    for n in range(20):
        store.away = n % 3 > 0
        await one.sync()
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "drains cannot be read: store_unavailable: The shared store is away."
    ]
