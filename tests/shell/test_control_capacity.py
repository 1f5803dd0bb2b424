"""The census is kept up to date by itself, and is never old when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from router.config import parse
from router.control import capacity
from router.control.capacity import CensusTaker, document, goals_of
from router.core.fleet import Fleet
from router.core.needed import Goal
from tests.support.fleets import MODEL, fleet_of


def taker_of(
    fleet: Fleet, goals: Callable[[], dict[str, Goal]], clock: Clock, scrape: Callable[[], Any] = dict
) -> CensusTaker:
    return CensusTaker(fleet, goals, scrape, unheard=lambda model, region: False, now_s=clock)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_goals_are_of_models_with_a_target() -> None:
    config = parse("regions = []\n[models.a]\ntarget_ttft_s = 2\n[models.b]\nmin = 1", "x")
    assert goals_of(config) == {"a": Goal(2.0)}


def test_an_answer_is_never_old() -> None:
    clock, fleet = Clock(), fleet_of("us-east/a", "us-east/b")
    taker = taker_of(fleet, lambda: {MODEL: Goal(1.0)}, clock)
    assert taker.groups()[0].there == 2
    fleet.set_draining("us-east/b", True)
    assert taker.groups()[0].there == 2  # within a quarter of a second
    clock.now_s = 0.3
    (group,) = taker.groups()
    assert (group.there, group.short) == (1, 1)


@pytest.mark.parametrize("goals", [{}, {MODEL: Goal(1.0)}])
async def test_it_looks_by_itself_where_there_is_a_goal(
    goals: dict[str, Goal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "LOOK_S", 0.01)
    asked: list[float] = []
    taker = taker_of(fleet_of("us-east/a"), lambda: goals, Clock(), lambda: asked.append(1.0) or {})
    await taker.start()
    async with asyncio.timeout(30):
        while goals and not asked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    await taker.stop()
    assert bool(asked) is bool(goals)


def test_the_document() -> None:
    taker = taker_of(fleet_of("us-east/a", cost_usd_hour=2.0), lambda: {MODEL: Goal(1.0)}, Clock())
    told = document(taker.groups())
    entry = told["data"][0]
    assert (entry["region"], entry["model"], entry["needed"], entry["reason"]) == ("us-east", MODEL, 1, "min")
    assert entry["engines"][0]["cost_usd_hour"] == 2.0
