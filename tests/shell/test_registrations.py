"""Backends that register themselves: shared by routers, for as long as they say it again."""

from __future__ import annotations

import pytest

from router import clock
from router.config import parse
from router.control.registrations import Registrations
from router.core.fleet import Fleet
from router.core.params import Params
from router.discovery.sources import REGISTERED, Sources
from router.store.memory import MemoryStore
from tests.support.shared_store import SharedStore

CONFIG = parse('[[regions]]\nname = "us-east"\njurisdiction = "us"\nprobation = "burn-in"\nbackends = []\n', "f")
POD = {"url": "http://10.0.0.7:8000", "engine": "vllm", "models": ["m"], "cost_usd_hour": 2.5}


class Time:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.s = 1000.0
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.s)


class Router:
    def __init__(self, store: MemoryStore, name: str) -> None:
        self.sources = Sources(busy=lambda backend: False)
        self.sources.reload(CONFIG)
        self.sources.changed = self.sources.stand
        self.registrations = Registrations(Fleet(Params()), store, self.sources, router=name)

    def names(self) -> list[str]:
        return [spec.name for spec in self.sources.stand().specs]


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


async def test_every_router_learns_of_it_with_what_its_region_says(store: SharedStore, time: Time) -> None:
    one, two = Router(store, "one"), Router(store, "two")
    assert await one.registrations.register("us-east/p", POD, 30.0)
    await two.registrations.sync()
    for router in (one, two):
        (spec,) = router.sources.stand().specs
        assert (spec.name, spec.url, spec.engine, spec.models) == ("us-east/p", POD["url"], "vllm", ("m",))
        assert (spec.region.jurisdiction, spec.probation, spec.cost_usd_hour) == ("us", "burn-in", 2.5)
        assert router.sources.call.origins["us-east/p"].source == REGISTERED


async def test_it_ends_unless_it_is_renewed(store: SharedStore, time: Time) -> None:
    one, two = Router(store, "one"), Router(store, "two")
    await one.registrations.register("us-east/p", POD, 30.0)
    await one.registrations.register("us-east/q", POD | {"url": "http://10.0.0.8:8000"}, 30.0)
    for _ in range(4):
        time.s += 20.0
        await one.registrations.register("us-east/q", POD | {"url": "http://10.0.0.8:8000"}, 30.0)
        for router in (one, two):
            await router.registrations.sync()
    assert one.names() == two.names() == ["us-east/q"]
    assert one.registrations.of("us-east/p") is None
    time.s += 60.0
    await one.registrations.sync()
    assert [key for key in await store.get_runtime() if key.startswith("backend:")] == ["backend:us-east/q"]


async def test_when_all_end_at_once_the_grace_time_holds(store: SharedStore, time: Time) -> None:
    one = Router(store, "one")
    await one.registrations.register("us-east/p", POD, 30.0)
    assert one.names() == ["us-east/p"]
    time.s += 31.0
    await one.registrations.sync()
    assert one.names() == ["us-east/p"]
    assert not one.sources.call.notices
    time.s += 30.0
    await one.registrations.sync()
    assert one.names() == []


async def test_one_that_leaves_has_a_notice_and_may_come_back(store: SharedStore, time: Time) -> None:
    one, two = Router(store, "one"), Router(store, "two")
    await one.registrations.register("us-east/p", POD, 30.0)
    await two.registrations.sync()
    assert one.names() == two.names() == ["us-east/p"]
    await one.registrations.leave("us-east/p", 10.0)
    await two.registrations.sync()
    for router in (one, two):
        notice = router.sources.stand().notices["us-east/p"]
        assert (notice.until_s, notice.by) == (time.s + 10.0, "the backend itself")
    await one.registrations.register("us-east/p", POD, 30.0)
    assert not one.sources.stand().notices
    await one.registrations.leave("us-east/p", 10.0)
    time.s += 14.0
    await one.registrations.sync()
    assert one.names() == []


async def test_while_the_store_is_away_those_of_other_routers_do_not_end(
    store: SharedStore, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Router(store, "one"), Router(store, "two")
    await one.registrations.register("us-east/p", POD, 30.0)
    await two.registrations.sync()
    two.names()
    store.away = True
    monkeypatch.setattr(SharedStore, "state", "down")
    time.s += 300.0
    await two.registrations.sync()
    assert two.names() == ["us-east/p"]
    assert two.registrations.of("us-east/p") is not None


async def test_what_another_version_has_written_is_not_understood_and_harmless(store: SharedStore, time: Time) -> None:
    one = Router(store, "one")
    await store.set_runtime("backend:us-east/p", "nonsense")
    await store.set_runtime("backend:us-east/q", '{"fields": {"engine": "vllm"}, "lease_s": 30, "by": "x"}')
    await store.set_runtime("backend:mars/a", '{"fields": {"url": "http://h:1"}, "lease_s": 30, "by": "x"}')
    await one.registrations.sync()
    assert one.names() == []
