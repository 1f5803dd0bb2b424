"""The history is written from what the fleet and the store go through."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from router import clock
from router.config import Plan
from router.control.chronicle import WHY, Chronicle
from router.core.health import Event, State
from router.core.outcomes import Outcome
from router.store.courier import LinkError
from router.store.memory import MemoryStore
from router.telemetry.history import History, Occurrence
from tests.support.fleets import Driver, fleet_of, spec

A, B = "us-east/a", "us-west/a"


@dataclass
class Stream:
    """Entries that several routers share, while it is not away."""

    entries: list[bytes] = field(default_factory=list)
    away: bool = False

    def _check(self) -> None:
        if self.away:
            raise LinkError("the store is away")

    async def append(self, name: str, entries: list[bytes], *, keep: int) -> None:
        self._check()
        self.entries += entries

    async def after(self, name: str, mark: str) -> list[tuple[str, bytes]]:
        self._check()
        at = int(mark.partition("-")[0])
        return [(f"{at + i + 1}-0", raw) for i, raw in enumerate(self.entries[at : at + 7])]

    async def latest(self, name: str, most: int) -> list[tuple[str, bytes]]:
        self._check()
        return [(f"{i + 1}-0", raw) for i, raw in enumerate(self.entries)]


class Shared(MemoryStore):
    """A store with a stream, which can be away."""

    def __init__(self, stream: Stream | None) -> None:
        super().__init__({"default": Plan("default")}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)
        self.streams = stream  # type: ignore[assignment]
        self.stream = stream

    @property
    def state(self) -> str:
        return "down" if self.stream is not None and self.stream.away else "up"

    @property
    def trouble(self) -> str | None:
        return "no answer in time" if self.state == "down" else None


def chronicle(
    driver: Driver, stream: Stream | None = None, *, name: str = "edge", error: str | None = None
) -> Chronicle:
    return Chronicle(
        History(name), driver.fleet, Shared(stream), last_error=lambda _: error, now_s=lambda: clock.monotonic_s()
    )


def told(made: Chronicle, kind: str = "health") -> list[tuple[str | None, str | None, str | None]]:
    return [(o.before, o.after, o.why) for o in reversed(made.history.list(lambda o: o.kind == kind))]


def kill(driver: Driver, name: str) -> float:
    """Probes of it fail, now."""
    now_s = clock.monotonic_s()
    for i in range(10):
        driver.fleet.observe_health(name, False, now_s + i * 0.001)
    return now_s


def test_a_backend_that_dies_is_noted_with_the_reason_and_shown_since_then() -> None:
    driver = Driver(fleet_of(A, B, now_s=clock.monotonic_s()))
    made = chronicle(driver, error="connection refused")
    before_s = clock.wall_s()
    kill(driver, A)
    made.look()
    assert told(made) == [("healthy", "ejected", "nobody answers: connection refused")]
    story = made.story(driver.fleet.backends[A])
    assert story.why == "nobody answers: connection refused"
    assert abs(story.since_s - before_s) < 5.0
    assert made.transitions == {("us-east", A, "ejected"): 1}
    assert made.story(driver.fleet.backends[B]).why == ""
    made.look()
    assert len(told(made)) == 1


def test_a_request_that_fails_says_how() -> None:
    driver = Driver(fleet_of(A, now_s=clock.monotonic_s()))
    made = chronicle(driver)
    driver.fail(clock.monotonic_s(), Outcome.SERVER_ERROR)
    made.look()
    assert told(made) == [("healthy", "suspect", "a request failed: server_error")]


def test_a_backend_that_wavers_does_not_fill_the_history() -> None:
    driver = Driver(fleet_of(A, now_s=clock.monotonic_s()))
    made = chronicle(driver)
    began_s = clock.monotonic_s()
    for i in range(5):
        driver.fail(began_s + 10.0 * i, Outcome.SERVER_ERROR)
        for second in range(1, 9):
            driver.serve(began_s + 10.0 * i + second)
    made.look()
    assert told(made) == [("healthy", "suspect", "a request failed: server_error")]
    assert made.transitions["us-east", A, "suspect"] == 5
    assert made.story(driver.fleet.backends[A]).why == "a request succeeded"
    for second in range(60, 70):
        driver.fleet.observe_health(A, False, began_s + second)
    made.look()
    assert told(made)[-1][1] == "ejected", "what matters is never left out"


def test_a_backend_that_is_taken_out_is_forgotten() -> None:
    driver = Driver(fleet_of(A, B, now_s=clock.monotonic_s()))
    made = chronicle(driver)
    kill(driver, A)
    made.look()
    driver.fleet.apply([spec(B)], clock.monotonic_s())
    made.look()
    assert not made.transitions
    assert made._stories == {}


def test_another_engine_behind_the_name_begins_a_new_story() -> None:
    driver = Driver(fleet_of(A, now_s=clock.monotonic_s()))
    made = chronicle(driver)
    kill(driver, A)
    made.look()
    driver.fleet.apply([spec(A, url="http://elsewhere:1")], clock.monotonic_s())
    made.look()
    assert driver.fleet.backends[A].state is State.HEALTHY
    assert made.story(driver.fleet.backends[A]).why == "another engine stands behind the name"


@pytest.mark.parametrize("event", Event)
def test_every_event_of_a_backend_has_words(event: Event) -> None:
    assert WHY[event]


async def test_what_one_router_sees_the_others_know_and_also_one_that_comes_later() -> None:
    stream = Stream()
    driver = Driver(fleet_of(A, now_s=clock.monotonic_s()))
    one, two = chronicle(driver, stream, name="one"), chronicle(Driver(fleet_of(A)), stream, name="two")
    kill(driver, A)
    one.look()
    for i in range(20):
        one.history.note("key", f"key_{i}", after="created")
    await one.sync()
    await two.sync()
    await two.sync()
    assert ids(two) == ids(one)
    assert [o.router for o in two.history.list(limit=1)] == ["one"]
    two.history.note("drain", "us-east", after="draining")
    await two.sync()
    await one.sync()
    late = chronicle(Driver(fleet_of(A)), stream, name="late")
    await late.sync()
    assert ids(late) == ids(one) == ids(two)
    assert len(stream.entries) == 22, "nothing is told twice"


async def test_events_wait_while_the_store_is_away_and_the_outage_is_one() -> None:
    stream = Stream()
    made = chronicle(Driver(fleet_of(A)), stream)
    await made.sync()
    stream.away = True
    made.look()
    made.history.note("key", "key_1", after="revoked")
    await made.sync()
    assert stream.entries == []
    assert told(made, "store") == [("up", "down", "no answer in time")]
    stream.away = False
    made.look()
    await made.sync()
    assert told(made, "store")[-1] == ("down", "up", None)
    assert len(stream.entries) == 3
    assert not made.history.untold


async def test_it_runs_until_it_is_stopped_and_notes_both() -> None:
    driver = Driver(fleet_of(A, now_s=clock.monotonic_s()))
    made = chronicle(driver)
    await made.start("1.2.3")
    kill(driver, A)
    async with asyncio.timeout(10):
        while not told(made):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await made.stop()
    assert told(made, "router") == [(None, "started", "version 1.2.3"), ("serving", "stopped", None)]


def ids(made: Chronicle) -> list[str]:
    found: list[Occurrence] = list(made.history.newest_first())
    return sorted(o.id for o in found)


def test_one_that_was_drained_is_well_since_it_was_resumed() -> None:
    driver = Driver(fleet_of(A, B, now_s=clock.monotonic_s()))
    made = chronicle(driver)
    made.look()
    driver.fleet.set_draining(A, True)
    made.look()
    resumed_s = clock.wall_s()
    driver.fleet.set_draining(A, False)
    made.look()
    story = made.story(driver.fleet.backends[A])
    assert story.why == "it gets requests again"
    assert story.since_s >= resumed_s
    assert made.story(driver.fleet.backends[B]).why == ""
