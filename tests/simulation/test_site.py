"""One router in virtual time: it drives courses as the gateway does."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from router.core.course import Course
from router.core.decisions import Wait
from router.core.hedging import Hedging
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.traits import Continues
from router.core.types import Lease
from sim.site import Site
from tests.support.fleets import MODEL, ask, spec


@dataclass(eq=False)
class Asked:
    course: Course
    failure: str | None = None
    begun: bool = False
    live: list[Lease] = field(default_factory=list)


@dataclass
class Wire:
    """A carrier that notes what it is told."""

    sent: list[tuple[Asked, Lease]] = field(default_factory=list)
    held: list[Asked] = field(default_factory=list)
    reminders: list[tuple[Asked, Lease, float]] = field(default_factory=list)
    dropped: list[Lease] = field(default_factory=list)
    ended: list[tuple[Asked, str | None]] = field(default_factory=list)

    def send(self, flow: Asked, lease: Lease, now_s: float) -> None:
        self.sent.append((flow, lease))

    def remind(self, flow: Asked, lease: Lease, due_s: float) -> None:
        self.reminders.append((flow, lease, due_s))

    def drop(self, flow: Asked, lease: Lease, now_s: float) -> None:
        self.dropped.append(lease)

    def hold(self, flow: Asked, decision: Wait, now_s: float) -> None:
        self.held.append(flow)

    def rest(self, flow: Asked, lease: Lease, now_s: float) -> Continues:
        return Continues.TEXT

    def over(self, flow: Asked, error: str | None, now_s: float) -> None:
        self.ended.append((flow, error))


@pytest.fixture
def wire() -> Wire:
    return Wire()


def site_of(wire: Wire, *names: str, limit: int = 1, **params: int) -> Site[Asked]:
    site: Site[Asked] = Site("us-east", Params(**params), "round_robin", random.Random(1), wire)
    site.fleet.apply([spec(name, max_inflight=limit) for name in names], 0.0)
    return site


def request(site: Site[Asked], now_s: float = 0.0) -> Asked:
    flow = Asked(Course(site.fleet, site.policy, ask(arrival_s=now_s), (MODEL,)))
    site.decide(flow, now_s)
    return flow


def test_a_failure_goes_elsewhere_and_an_answer_ends_it(wire: Wire) -> None:
    site = site_of(wire, "us-east/a", "us-east/b")
    flow = request(site)
    site.failed(flow, wire.sent[0][1], Outcome.SERVER_ERROR, 0.1)
    assert wire.sent[1][1].backend != wire.sent[0][1].backend
    site.answered(flow, wire.sent[1][1], 0.2)
    assert wire.ended == [(flow, None)]
    assert not site.fleet.leases


def test_a_stream_that_breaks_is_gone_on_with_by_who_can(wire: Wire) -> None:
    site = site_of(wire, "us-east/a", "us-east/b")
    flow = request(site)
    site.first_token(flow, wire.sent[0][1], 0.1)
    site.failed(flow, wire.sent[0][1], Outcome.UNREACHABLE, 0.2, died=True)
    assert flow.failure == "truncated"
    assert flow.course.breaks == 1
    assert wire.sent[1][1].backend != wire.sent[0][1].backend
    site.fleet.observe_continues("us-east/a", Continues.NO)
    site.failed(flow, wire.sent[1][1], Outcome.SERVER_ERROR, 0.3)
    assert wire.ended == [(flow, "server_error")]


def test_a_place_that_is_free_goes_to_who_waits(wire: Wire) -> None:
    site = site_of(wire, "us-east/a", queue_max=1)
    first, second, third = request(site), request(site), request(site)
    assert wire.held == [second]
    assert wire.ended == [(third, "admission_full")]
    site.answered(first, wire.sent[0][1], 1.0)
    assert wire.sent[1][0] is second


def test_a_wait_ends(wire: Wire) -> None:
    site = site_of(wire, "us-east/a", wait_max_s=2)
    request(site)
    second = request(site)
    site.offer(1.9)
    assert wire.ended == []
    site.offer(2.0)
    assert wire.ended == [(second, "wait_expired")]


def test_who_finds_nobody_is_told_why(wire: Wire) -> None:
    site = site_of(wire, "us-east/a")
    site.fleet.set_draining("us-east", True)
    assert wire.ended == [(request(site), "no_backend")]


def test_a_late_request_is_hedged_and_the_first_token_wins(wire: Wire) -> None:
    site: Site[Asked] = Site(
        "us-east",
        Params(),
        "round_robin",
        random.Random(1),
        wire,
        lambda fleet: Hedging(fleet, share=1.0, floor_s=0.1),
    )
    site.fleet.apply([spec(name) for name in ("us-east/a", "us-east/b")], 0.0)
    flow = request(site)
    first, due_s = wire.reminders[0][1:]
    site.hedge(flow, first, due_s)
    second = wire.sent[1][1]
    assert flow.live == [first, second]
    site.first_token(flow, second, due_s + 0.1)
    assert wire.dropped == [first]
    assert site.fleet.leases == {second}
    site.answered(flow, second, due_s + 1.0)
    assert wire.ended == [(flow, None)]


def test_of_two_attempts_one_may_fail(wire: Wire) -> None:
    site: Site[Asked] = Site(
        "us-east",
        Params(),
        "round_robin",
        random.Random(1),
        wire,
        lambda fleet: Hedging(fleet, share=1.0, floor_s=0.1),
    )
    site.fleet.apply([spec(name) for name in ("us-east/a", "us-east/b", "us-east/c")], 0.0)
    flow = request(site)
    first, due_s = wire.reminders[0][1:]
    site.hedge(flow, first, due_s)
    second = wire.sent[1][1]
    site.failed(flow, first, Outcome.UNREACHABLE, due_s + 0.1, died=True)
    assert len(wire.sent) == 2, "the other one goes on"
    site.failed(flow, second, Outcome.SERVER_ERROR, due_s + 0.2)
    assert wire.sent[2][1].backend not in (first.backend, second.backend)
