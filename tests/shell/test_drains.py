"""Drains are shared: what one router's operator wishes, every router does."""

from __future__ import annotations

import pytest

from router import clock
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


async def test_a_drain_tells_who_when_and_why(store: SharedStore) -> None:
    one, _ = router(store)
    two, _ = router(store)
    before_s = clock.wall_s()
    await one.set("us-east", True, by="ann@ops", reason="new GPUs")
    await two.sync()
    for drains in (one, two):
        drain = drains.of("us-east/a")
        assert drain is not None
        assert (drain.by, drain.reason, drain.until_s) == ("ann@ops", "new GPUs", None)
        assert before_s <= (drain.since_s or 0.0) <= clock.wall_s()
    assert one.of("us-west/a") is None


async def test_saying_it_again_changes_nothing(store: SharedStore) -> None:
    one, _ = router(store)
    await one.set("us-east", True, by="ann@ops", reason="new GPUs")
    before = await store.get_runtime()
    await one.set("us-east", True, by="bob@ops")
    assert await store.get_runtime() == before


async def test_a_drain_for_a_while_ends_by_itself(store: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    one, fleet = router(store)
    await one.set("us-east", True, for_s=60.0)
    await one.set("us-west/a", True)
    await one.sync()
    assert draining(fleet) == {"us-east/a", "us-east/b", "us-west/a"}
    late_s = clock.wall_s() + 61.0
    monkeypatch.setattr(clock, "wall_s", lambda: late_s)
    await one.sync()
    assert draining(fleet) == {"us-west/a"}
    assert set(await store.get_runtime()) == {"drain:us-west/a"}


@pytest.mark.parametrize("value", ["1", "", "null", "[]", '{"since_s": "x"}', '{"by": 5}', "{"])
async def test_what_other_routers_wrote_is_a_drain(store: SharedStore, value: str) -> None:
    await store.set_runtime("drain:us-east", value)
    one, fleet = router(store)
    await one.sync()
    assert draining(fleet) == {"us-east/a", "us-east/b"}
    assert one.of("us-east") is not None
