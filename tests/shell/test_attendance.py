"""Routers that died are remembered for an hour, and no longer."""

from __future__ import annotations

import asyncio
import json

import pytest

from router.control.attendance import KEPT_S, MOST, Attendance
from tests.support.shared_store import SharedStore


class Wall:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    made = Wall()
    monkeypatch.setattr("router.control.attendance.clock.wall_s", made)
    return made


def of(store: SharedStore, name: str) -> Attendance:
    return Attendance(store, lambda: {"name": name, "version": "1"})


async def test_a_router_that_died_is_known_for_an_hour(wall: Wall) -> None:
    store = SharedStore()
    one, two = of(store, "edge-1"), of(store, "edge-2")
    await one.beat()
    await two.beat()
    assert await one.gone({"edge-2"}) == [], "the exchange still hears it"
    (gone,) = await one.gone(())
    assert (gone["name"], gone["version"], gone["at_s"]) == ("edge-2", "1", wall.now_s)
    wall.now_s += KEPT_S + 1
    assert await one.gone(()) == []
    await one.beat()
    assert list(await store.get_runtime()) == ["router:edge-1"]


async def test_one_that_stops_in_order_is_not_looked_for() -> None:
    store = SharedStore()
    one, two = of(store, "edge-1"), of(store, "edge-2")
    await two.start()
    await two.beat()
    await two.stop()
    assert await one.gone(()) == []


async def test_one_that_does_not_stop_in_order_is(wall: Wall) -> None:
    store = SharedStore()
    one, two = of(store, "edge-1"), of(store, "edge-2")
    await two.beat()
    two.missed = True
    await two.stop()
    assert [card["name"] for card in await one.gone(())] == ["edge-2"]


async def test_names_that_change_all_the_time_do_not_fill_the_store(wall: Wall) -> None:
    store = SharedStore()
    for number in range(MOST + 20):
        wall.now_s += 1
        await of(store, f"pod-{number}").beat()
    assert len(await store.get_runtime()) == MOST
    assert len(await of(store, "edge-1").gone(())) == MOST


async def test_words_that_cannot_be_read_and_a_store_that_is_away(wall: Wall) -> None:
    store = SharedStore()
    for key, text in {"router:a": "no JSON", "router:b": json.dumps([1]), "drain:us": "{}"}.items():
        await store.set_runtime(key, text)
    one = of(store, "edge-1")
    assert await one.gone(()) == []
    await one.beat()
    assert sorted(await store.get_runtime()) == ["drain:us", "router:edge-1"]
    store.away = True
    await one.beat()
    assert await one.gone(()) == []
    await one.stop()


async def test_an_operator_does_not_wait_for_a_silent_store(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(SharedStore):
        async def get_runtime(self) -> dict[str, str]:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("router.control.attendance.WAIT_S", 0.01)
    async with asyncio.timeout(30):
        assert await of(Silent(), "edge-1").gone(()) == []
