"""Drains are shared: what one router's operator wishes, every router does."""

from __future__ import annotations

from router.core.types import BackendSpec
from tests.support.drained import EAST, SPECS, draining, router
from tests.support.shared_store import SharedStore


async def test_a_drain_holds_for_every_router_and_over_restarts(store: SharedStore) -> None:
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


async def test_a_backend_that_is_added_to_a_drained_region_is_drained(store: SharedStore) -> None:
    one, fleet = router(store)
    await one.set("us-east", True)
    fleet.apply([*SPECS, BackendSpec("us-east/c", EAST, "http://h:4", models=("m",))], 1.0)
    await one.sync()
    assert draining(fleet) == {"us-east/a", "us-east/b", "us-east/c"}
