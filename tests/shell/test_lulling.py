"""Models are put to sleep, and what was started by somebody else is noticed."""

from __future__ import annotations

import asyncio
from typing import Self

from router import clock
from router.config import Config, ModelAlias, WakeSection
from router.control.dormants import Dormants
from router.control.lulling import Lulling
from router.control.sleepers import Sleepers
from router.control.starting import Starting, StartingError
from router.control.waking import Waker
from router.core.fleet import Fleet
from router.observe.observer import Observer
from router.store.memory import MemoryStore
from tests.support.fleets import MODEL, fleet_of

EAST, WEST = "us-east/a", "us-west/a"


class Calls(Starting):
    """Notes the calls."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(Observer(fleet, Config()))
        self.made: list[tuple[str, str | None, int]] = []
        self.fails = False
        #: whether engines say that they sleep
        self.say: bool | None = None

    async def sleeps(self, backend: str) -> bool | None:
        return self.say

    async def engine(self, backend: str, *, awake: bool) -> bool:
        return False

    async def backends(self, wake: WakeSection, model: str, region: str | None, number: int) -> bool:
        if self.fails:
            raise StartingError("the webhook answered 500: no", told="the webhook answered 500")
        self.made.append((model, region, number))
        return wake.url is not None


def with_webhook(url: str | None) -> Config:
    return Config(models={MODEL: ModelAlias(MODEL, least=0, idle_s=0.05, wake=WakeSection(url=url))})


class Night:
    """One router over two backends that may sleep."""

    def __init__(self, url: str | None = "http://hook") -> None:
        self.fleet = fleet_of(EAST, WEST, now_s=clock.monotonic_s())
        self.fleet.dormant = {MODEL: 60.0}
        store = MemoryStore({}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)
        self.config = with_webhook(url)
        self.calls = Calls(self.fleet)
        self.sleepers = Sleepers(self.fleet, store)
        self.all = Dormants(
            self.fleet, store, self.sleepers, lambda: self.config, lambda _: (), now_s=clock.monotonic_s
        )
        self.events: list[tuple[str, str, str | None, str | None]] = []
        self.all.note = lambda kind, subject, **of: self.events.append((kind, subject, of.get("after"), of.get("why")))
        self.lulling = Lulling(self.all, store, self.calls, Waker(self.all, self.calls, lambda model, region: 0))

    async def __aenter__(self) -> Self:
        await self.lulling.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.lulling.stop()
        task = self.all.known(MODEL).task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until_told(self) -> None:
        async with asyncio.timeout(15):
            while not self.events:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_an_idle_model_is_put_to_sleep_region_by_region() -> None:
    async with Night() as night:
        await night.until_told()
        assert night.calls.made == [(MODEL, "us-east", 0), (MODEL, "us-west", 0)]
        assert night.sleepers.asleep == {EAST: "scaled", WEST: "scaled"}
        ((kind, subject, after, why),) = night.events
        assert (kind, subject, after) == ("sleep", MODEL, "asleep")
        assert why == f"no request for 0.05 s: {EAST}, {WEST}"


async def test_a_call_that_fails_leaves_it_awake_and_is_told() -> None:
    async with Night() as night:
        night.calls.fails = True
        await night.until_told()
        assert night.events[0][:3] == ("sleep", MODEL, "failed")
        assert night.all.failures == {(MODEL, "sleep"): 1}
        assert night.all.document()[0]["problem"] == f"{MODEL} cannot be put to sleep: the webhook answered 500: no"
        async with asyncio.timeout(10):
            while night.sleepers.asleep:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_configuration_that_names_a_webhook_at_last_is_tried_at_once() -> None:
    async with Night(None) as night:
        async with asyncio.timeout(15):
            while night.all.known(MODEL).restless is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert not night.events
        night.config = with_webhook("http://hook")
        await night.until_told()
        assert night.events[0][:3] == ("sleep", MODEL, "asleep")


async def test_one_that_somebody_else_starts_is_awake_again() -> None:
    night = Night()
    await night.sleepers.put({EAST: "scaled", WEST: "scaled"})
    now_s = clock.monotonic_s()
    night.fleet.observe_health(WEST, True, now_s)
    await night.lulling._notice_the_started()
    assert night.sleepers.asleep == {EAST: "scaled", WEST: "scaled"}, "it has not ended yet"
    for name in (EAST, WEST):
        night.fleet.observe_health(name, False, now_s + 1.0)
    await night.lulling._notice_the_started()
    night.fleet.observe_health(EAST, True, now_s + 2.0)
    await night.lulling._notice_the_started()
    assert night.sleepers.asleep == {WEST: "scaled"}


async def test_an_engine_that_was_started_again_while_it_slept_is_awake_when_it_says_so() -> None:
    night = Night()
    await night.sleepers.put({EAST: "engine"})
    for at, ok in enumerate((True, False, True)):
        night.calls.say = False if at == 0 else None  # one that has never been away is not asked
        night.fleet.observe_health(EAST, ok, clock.monotonic_s() + at)
        await night.lulling._notice_the_started()
        assert night.sleepers.asleep == {EAST: "engine"}
    night.calls.say = True
    await night.lulling._notice_the_started()
    night.calls.say = False
    await night.lulling._notice_the_started()
    assert night.sleepers.asleep == {EAST: "engine"}, "it has only missed a probe"
    for at, ok in ((3, False), (4, True)):
        night.fleet.observe_health(EAST, ok, clock.monotonic_s() + at)
        await night.lulling._notice_the_started()
    assert night.sleepers.asleep == {}


async def test_a_pod_of_the_same_name_that_comes_back_is_awake() -> None:
    """As those of a StatefulSet are called."""
    night = Night()
    await night.sleepers.put({EAST: "scaled", WEST: "engine"})
    specs = [b.spec for b in night.fleet.backends.values()]
    night.fleet.apply((), clock.monotonic_s())
    await night.lulling._notice_the_started()
    night.fleet.apply(specs, clock.monotonic_s())
    await night.lulling._notice_the_started()
    assert night.sleepers.asleep == {EAST: "scaled", WEST: "engine"}
    night.fleet.observe_health(EAST, True, clock.monotonic_s())
    await night.lulling._notice_the_started()
    assert night.sleepers.asleep == {WEST: "engine"}
