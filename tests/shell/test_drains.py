"""Drains are shared: what one router's operator wishes, every router does."""

from __future__ import annotations

import pytest

from router import clock
from router.config import Plan
from router.control.drains import Drains
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec
from router.store.memory import MemoryStore

EAST, WEST = RegionSpec("us-east"), RegionSpec("us-west")
SPECS = [
    BackendSpec("us-east/a", EAST, "http://h:1", models=("m",)),
    BackendSpec("us-east/b", EAST, "http://h:2", models=("m",)),
    BackendSpec("us-west/a", WEST, "http://h:3", models=("m",)),
]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore({"default": Plan("default")}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)


def router(store: MemoryStore) -> tuple[Drains, Fleet]:
    fleet = Fleet(Params())
    fleet.apply(SPECS, 0.0)
    return Drains(fleet, store), fleet


def draining(fleet: Fleet) -> set[str]:
    return {b.name for b in fleet.backends.values() if b.draining}


async def test_a_drain_holds_for_every_router_and_over_restarts(store: MemoryStore) -> None:
    one, fleet_one = router(store)
    two, fleet_two = router(store)
    assert await one.set("us-east", True)
    assert draining(fleet_one) == {"us-east/a", "us-east/b"}
    await two.sync()
    assert draining(fleet_two) == {"us-east/a", "us-east/b"}
    restarted, fleet = router(store)
    await restarted.start()
    assert draining(fleet) == {"us-east/a", "us-east/b"}
    await restarted.stop()
    assert await two.set("us-east", False)
    await one.sync()
    assert draining(fleet_one) == draining(fleet_two) == set()
    assert await store.get_runtime() == {}


async def test_one_backend_of_a_drained_region_can_be_resumed(store: MemoryStore) -> None:
    one, fleet = router(store)
    await one.set("us-east", True)
    await one.set("us-east/b", False)
    assert draining(fleet) == {"us-east/a"}
    assert set(await store.get_runtime()) == {"drain:us-east/a"}
    await one.set("us-east", True)
    assert set(await store.get_runtime()) == {"drain:us-east"}
    await one.set("us-east", False)
    assert draining(fleet) == set()


async def test_to_resume_a_region_resumes_its_backends(store: MemoryStore) -> None:
    one, fleet = router(store)
    await one.set("us-east/a", True)
    await one.set("us-west/a", True)
    await one.set("us-east", False)
    assert draining(fleet) == {"us-west/a"}


async def test_a_backend_that_is_added_to_a_drained_region_is_drained(store: MemoryStore) -> None:
    one, fleet = router(store)
    await one.set("us-east", True)
    fleet.apply([*SPECS, BackendSpec("us-east/c", EAST, "http://h:4", models=("m",))], 1.0)
    await one.sync()
    assert draining(fleet) == {"us-east/a", "us-east/b", "us-east/c"}
