"""Sleeping backends are known to every router of a store, and get no requests."""

from __future__ import annotations

from router import clock
from router.control.sleepers import Sleepers
from router.store.memory import MemoryStore
from tests.support.fleets import Driver, fleet_of

NAMES = ("us-east/a", "us-east/b")


async def test_every_router_hears_of_it() -> None:
    store = MemoryStore({}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)
    here, there = fleet_of(*NAMES), fleet_of(*NAMES)
    one, other = Sleepers(here, store), Sleepers(there, store)
    await one.put({"us-east/a": "engine"})
    await other.sync()
    assert other.asleep == {"us-east/a": "engine"}
    for fleet in (here, there):
        assert fleet.backends["us-east/a"].asleep
        assert not fleet.backends["us-east/a"].usable(0.0)
        assert {Driver(fleet).serve(float(i)).backend for i in range(20)} == {"us-east/b"}
    await other.put({"us-east/a": None})
    await one.sync()
    assert here.backends["us-east/a"].usable(0.0)
