"""Notices are shared: every router knows that a backend goes away, and when it is back."""

from __future__ import annotations

import pytest

from router import clock
from router.config import Plan
from router.control.notices import Notices
from router.core.fleet import Fleet
from router.core.health import State
from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec
from router.store.memory import MemoryStore

EAST, WEST = RegionSpec("us-east"), RegionSpec("us-west")
SPECS = [
    BackendSpec("us-east/a", EAST, "http://h:1", models=("m",)),
    BackendSpec("us-east/b", EAST, "http://h:2", models=("m",)),
    BackendSpec("us-west/a", WEST, "http://h:3", models=("m",)),
]


class Time:
    """Both clocks, each set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mono_s, self.wall_s = 1000.0, 1.7e9
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.mono_s)
        monkeypatch.setattr(clock, "wall_s", lambda: self.wall_s)

    def passes(self, seconds: float) -> None:
        self.mono_s += seconds
        self.wall_s += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def store(time: Time) -> MemoryStore:
    return MemoryStore({"default": Plan("default")}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)


def router(store: MemoryStore) -> tuple[Notices, Fleet]:
    fleet = Fleet(Params())
    fleet.apply(SPECS, clock.monotonic_s())
    return Notices(fleet, store), fleet


def leaving(fleet: Fleet) -> dict[str, float]:
    """Backends that go away, and in how many seconds."""
    now_s = clock.monotonic_s()
    return {b.name: round(b.leaving.until_s - now_s, 3) for b in fleet.leaving() if b.leaving is not None}


async def test_every_router_knows_when_and_who_said_so_also_one_that_starts_later(
    store: MemoryStore, time: Time
) -> None:
    one, fleet_one = router(store)
    assert await one.give("us-east", 120, "alice@laptop")
    assert leaving(fleet_one) == {"us-east/a": 120, "us-east/b": 120}
    time.passes(50)
    time.mono_s += 12345  # another process has another clock
    two, fleet_two = router(store)
    await two.start()
    assert leaving(fleet_two) == {"us-east/a": 70, "us-east/b": 70}
    notice = fleet_two.backends["us-east/a"].leaving
    assert notice is not None
    assert (notice.by, round(clock.monotonic_s() - notice.since_s)) == ("alice@laptop", 50)
    await two.stop()
    assert await one.cancel("us-east")
    await two.sync()
    assert leaving(fleet_two) == {}
    assert await store.get_runtime() == {}


async def test_saying_it_again_changes_nothing_and_only_less_time_counts(store: MemoryStore, time: Time) -> None:
    one, fleet = router(store)
    await one.give("us-east/a", 120, "alice")
    time.passes(10)
    before = await store.get_runtime()
    await one.give("us-east/a", 120, "bob")
    assert (leaving(fleet), await store.get_runtime()) == ({"us-east/a": 110}, before)
    await one.give("us-east/a", 30, "bob")
    assert leaving(fleet) == {"us-east/a": 30}
    time.passes(31)
    await one.give("us-east/a", 60, "carol")
    assert leaving(fleet) == {"us-east/a": 60}, "the earlier one is over"


async def test_a_step_of_the_wall_clock_moves_no_notice(store: MemoryStore, time: Time) -> None:
    one, fleet = router(store)
    await one.give("us-east/a", 120, "alice")
    time.wall_s += 3600
    await one.sync()
    time.passes(20)
    await one.sync()
    assert leaving(fleet) == {"us-east/a": 100}


async def test_after_its_time_it_stays_out_until_it_was_away_and_is_back(store: MemoryStore, time: Time) -> None:
    one, fleet = router(store)
    two, fleet_two = router(store)
    await one.give("us-east", 60, "alice")
    time.passes(30)
    fleet.observe_health("us-east/a", False, time.mono_s)  # it is still there, and busy
    for _ in range(3):
        fleet.observe_health("us-east/a", True, time.mono_s)
        await one.sync()
    time.passes(40)
    for _ in range(3):
        fleet.observe_health("us-east/a", True, time.mono_s)
        await one.sync()
    assert set(leaving(fleet)) == {"us-east/a", "us-east/b"}, "it has not gone yet"
    fleet.observe_health("us-east/a", False, time.mono_s)
    await one.sync()
    assert "us-east/a" in leaving(fleet)
    time.passes(60)
    for _ in range(3):
        fleet.observe_health("us-east/a", True, time.mono_s)
    await one.sync()
    assert set(leaving(fleet)) == {"us-east/b"}, "it is back; the other one of its region is not"
    assert fleet.backends["us-east/a"].state is State.HEALTHY
    await two.sync()
    assert set(leaving(fleet_two)) == {"us-east/b"}, "and every router knows"


async def test_one_of_a_region_can_stay(store: MemoryStore, time: Time) -> None:
    one, fleet = router(store)
    await one.give("us-east", 60, "alice")
    await one.cancel("us-east/b")
    assert leaving(fleet) == {"us-east/a": 60}
    await one.give("us-east", 30, "alice")
    assert leaving(fleet) == {"us-east/a": 30, "us-east/b": 30}
    await one.cancel("us-east")
    assert leaving(fleet) == {}


async def test_a_notice_of_something_unknown_is_forgotten_in_the_end(store: MemoryStore, time: Time) -> None:
    one, fleet = router(store)
    await one.give("us-west/a", 60, "alice")
    fleet.apply(SPECS[:2], time.mono_s)
    time.passes(600)
    await one.sync()
    assert len(await store.get_runtime()) == 1, "another router may know it"
    time.passes(3600)
    await one.sync()
    assert await store.get_runtime() == {}


@pytest.mark.parametrize(
    "value", ["", "1", "{}", "[]", '{"since_s":1,"until_s":"x","by":""}', '{"since_s":1,"until_s":2}']
)
async def test_a_value_that_cannot_be_read_does_nothing(store: MemoryStore, time: Time, value: str) -> None:
    await store.set_runtime("notice:us-east/a", value)
    await store.set_runtime("drain:us-east/a", "1")
    one, fleet = router(store)
    await one.sync()
    assert leaving(fleet) == {}
    assert not fleet.backends["us-east/a"].draining, "drains are none of its business"
