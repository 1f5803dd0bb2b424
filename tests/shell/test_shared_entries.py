"""Entries of the store are shared although it can go away. Drains stand for all of them."""

from __future__ import annotations

import pytest

from tests.support.drained import draining, router
from tests.support.shared_store import SharedStore


async def test_while_the_store_is_away_a_wish_holds_here_and_is_shared_later(store: SharedStore) -> None:
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


async def test_a_store_that_is_away_at_the_start_stops_nothing(store: SharedStore) -> None:
    await store.set_runtime("drain:us-east/a", "1")
    store.away = True
    one, fleet = router(store)
    await one.start()
    assert draining(fleet) == set()
    store.away = False
    await one.sync()
    assert draining(fleet) == {"us-east/a"}
    await one.stop()


async def test_other_shared_state_is_left_alone(store: SharedStore) -> None:
    await store.set_runtime("something:else", "1")
    one, fleet = router(store)
    await one.sync()
    assert draining(fleet) == set()
    assert await store.get_runtime() == {"something:else": "1"}


async def test_a_store_that_comes_and_goes_is_said_once(store: SharedStore, caplog: pytest.LogCaptureFixture) -> None:
    one, _ = router(store)
    for n in range(20):
        store.away = n % 3 > 0
        await one.sync()
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "drains cannot be read: store_unavailable: The shared store is away."
    ]
