"""core/course.py: whether a request has anybody else to ask, while it waits for a connection."""

from __future__ import annotations

import random

from router.core.course import Course
from router.core.decisions import Dispatch
from router.core.fleet import Fleet
from router.core.outcomes import Outcome
from router.core.policy import make_policy
from tests.support.fleets import MODEL, ask, fleet_of

RNG = random.Random(1)
OTHER = "another"


def course_of(fleet: Fleet, *models: str) -> Course:
    return Course(fleet, make_policy("ttft", fleet.params), ask(deadline_s=5.0), (MODEL, *models))


def go(course: Course) -> str:
    decision = course.next(0.0, RNG)
    assert isinstance(decision, Dispatch), decision
    return decision.lease.backend


def test_another_backend_may_be_asked_until_it_has_failed_too() -> None:
    course = course_of(fleet_of("us-east/a", "us-west/a"))
    first = go(course)
    assert not course.is_last_hope(first, 0.0, RNG)
    course.failed(first, Outcome.UNREACHABLE, 0.0)
    assert course.is_last_hope(go(course), 0.0, RNG)


def test_another_model_may_answer() -> None:
    course = course_of(fleet_of("us-east/a"), OTHER)
    assert not course.is_last_hope(go(course), 0.0, RNG)


def test_when_its_time_is_over_nothing_is_hoped_for() -> None:
    course = course_of(fleet_of("us-east/a"))
    backend = go(course)
    assert course.is_last_hope(backend, 4.9, RNG)
    assert not course.is_last_hope(backend, 5.0, RNG)
