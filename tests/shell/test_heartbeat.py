"""The log about a store that comes and goes."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from router.store.degraded import FAILURES
from router.store.heartbeat import Heartbeat
from tests.unit.test_counters import Clock


class Deaf:
    """A link on which nothing is said."""

    async def eviction_policy(self) -> str | None:
        return None


def heartbeat(clock: Clock) -> Heartbeat:
    nothing = cast(Any, None)
    return Heartbeat(
        cast(Any, Deaf()), nothing, "edge-1", nothing, nothing, on_down="share", monotonic_s=clock, wall_s=clock
    )


def lose(heart: Heartbeat, why: str = "timeout") -> None:
    for _ in range(FAILURES):
        heart.failed(why)


async def test_a_store_that_flaps_is_told_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    heart = heartbeat(clock)
    heart.breaker.recovered(0.0)
    for _ in range(300):  # ten minutes
        lose(heart)
        clock.at_s += 1.0
        await heart._is_back()
        clock.at_s += 1.0
    away = [line for line in caplog.messages if "the store is away" in line]
    assert 3 <= len(away) <= 6
    assert len([line for line in caplog.messages if "is back after" in line]) == len(away)
    assert "times since this was last said" in away[-1]


async def test_another_trouble_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    heart = heartbeat(clock)
    heart.breaker.recovered(0.0)
    lose(heart)
    clock.at_s += 1.0
    await heart._is_back()
    lose(heart, "connection refused")
    assert [line for line in caplog.messages if "the store is away (connection refused)" in line]
