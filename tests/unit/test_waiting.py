"""The waiting room: who is woken when a place is free, and what becomes of those who are not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from router import clock
from router.core.admission import WaitQueue
from router.core.course import Course
from router.core.decisions import Wait
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import make_policy
from router.errors import RouterError
from router.gateway.waiting import Place, WaitingRoom
from router.telemetry.journal import Record
from router.wire.flow import Flow
from tests.support.fleets import MODEL, Driver, ask, fleet_of


class Loop:
    """Stands in for the event loop: what is to be called soon is called by ``turn``."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []

    def call_soon(self, call: Callable[[], object]) -> None:
        self.soon.append(call)

    def turn(self) -> None:
        calls, self.soon = self.soon, []
        for call in calls:
            call()


class Rig:
    """One backend with one place, which is taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, queue_max: int = 10) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now_s)
        params = Params(queue_max=queue_max)
        self.driver = Driver(fleet_of("us-east/a", params=params, now_s=100.0, max_inflight=1))
        self.lease = self.driver.send(self.now_s)
        self.loop: Any = Loop()
        self.room = WaitingRoom(WaitQueue[Place](params), random.Random(1), self.loop)
        self.ended: list[str] = []
        self.records: dict[str, Record] = {}

    def come(self, name: str) -> Flow:
        """A request that waits, and says how that ended."""
        fleet, record = self.driver.fleet, Record(name, 0.0)
        course = Course(fleet, make_policy("ttft", fleet.params), ask(request_id=name, arrival_s=self.now_s), (MODEL,))
        self.records[name] = record

        async def wait() -> None:
            try:
                await self.room.wait(course, Wait(self.now_s + 30.0), record)
                course.next(self.now_s, random.Random(1))
                self.ended.append(name)
            except RouterError as error:
                self.ended.append(f"{name} {error.code}")

        flow = Flow(wait())
        flow.step()
        return flow

    def free(self) -> None:
        for lease in list(self.driver.fleet.leases):
            self.driver.fleet.end(lease, Outcome.OK, self.now_s)


def test_as_many_are_woken_as_there_are_places(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    for name in "abc":
        rig.come(name)
    rig.room.offer()
    assert rig.ended == []
    rig.now_s += 2.0
    rig.free()
    rig.room.offer()
    assert rig.ended == ["a"], "it took the place before the next one was asked"
    assert len(rig.room) == 2
    assert rig.records["a"].wait_s == 2.0


def test_a_place_is_offered_after_the_attempt_that_held_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.come("a")
    rig.free()
    rig.room.offer_soon()
    assert rig.ended == []
    rig.loop.turn()
    assert rig.ended == ["a"]


def test_a_full_room_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, queue_max=2)
    for name in "abc":
        rig.come(name)
    assert rig.ended == ["c admission_full"]


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.come("a")
    rig.now_s += 30.0
    rig.room.offer()
    assert rig.ended == ["a wait_expired"]
    assert len(rig.room) == 0


def test_who_leaves_is_gone_from_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    flow = rig.come("a")
    flow.throw(RouterError("shutting_down"))
    assert len(rig.room) == 0
    rig.free()
    rig.room.offer()
    assert rig.ended == ["a shutting_down"]
