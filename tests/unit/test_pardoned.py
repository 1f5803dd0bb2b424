"""core/course.py: which deaths are still held against a whole answer that is started over."""

from __future__ import annotations

import random

import pytest

from router.core.course import Course, Stop
from router.core.decisions import Dispatch
from router.core.outcomes import Outcome
from router.core.policy import make_policy
from tests.support.fleets import MODEL, REGIONS, ask, fleet_of

RNG = random.Random(1)


def died_at(*places: int | None) -> Stop | None:
    """A backend has died at each of these places: does the course go on?"""
    fleet = fleet_of(*(f"{region}/a" for region in REGIONS))
    course, stop = Course(fleet, make_policy("ttft", fleet.params), ask(), (MODEL,)), None
    for place in places:
        assert stop is None
        decision = course.next(0.0, RNG)
        assert isinstance(decision, Dispatch), decision
        fleet.end(decision.lease, Outcome.UNREACHABLE, 0.0)
        stop = course.failed(decision.lease.backend, Outcome.UNREACHABLE, 0.0, died=True, place=place)
    return stop


@pytest.mark.parametrize("places", [(0, 0), (78, 80), (200, 190), (None, None), (78, None), (None, 78), (0, 15)])
def test_deaths_at_the_same_place_or_an_unknown_one_are_held_against_it(places: tuple[int | None, ...]) -> None:
    assert died_at(*places) is Stop.DEADLY


@pytest.mark.parametrize("places", [(78, 125), (210, 21), (0, 40)])
def test_deaths_at_another_place_are_not(places: tuple[int, ...]) -> None:
    assert died_at(*places) is None


def test_the_attempts_are_limited_all_the_same() -> None:
    assert died_at(10, 110, 210) is Stop.ATTEMPTS
