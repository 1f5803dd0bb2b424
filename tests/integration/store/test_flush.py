"""A store that forgets its scripts, or everything, under load: requests go on, and no limit is exceeded."""

from __future__ import annotations

import asyncio

import pytest

from router.config import Plan
from tests.integration.store.load import load
from tests.integration.store.routers import eventually, router
from tests.support.valkey import Valkey

PLAN = Plan("default", requests_per_minute=1200, concurrent=12)


@pytest.mark.parametrize("words", [("SCRIPT", "FLUSH"), ("FLUSHALL",)], ids=" ".join)
async def test_flushes_under_load(valkey: Valkey, words: tuple[str, ...]) -> None:
    """With ``deny`` everything is let in by the store."""
    async with (
        router(valkey.url, PLAN, name="a", on_down="deny") as a,
        router(valkey.url, PLAN, name="b", on_down="deny") as b,
    ):
        await eventually(lambda: a._heart.routers == b._heart.routers == 2)
        async with load([a, b], PLAN, clients=12) as running:
            for _ in range(8):
                await asyncio.sleep(0.4)
                valkey.command(*words)
            before = running.admitted
            await eventually(lambda: running.admitted > before + 10)
    assert running.most_at_once <= 12
    assert running.excess <= 0
    assert running.admitted >= 600, "it did not stop for long"


async def test_money_is_not_forgotten(valkey: Valkey) -> None:
    plan = Plan("default", budget_usd_month=0.005)
    async with router(valkey.url, plan, name="a", on_down="deny") as a:
        async with load([a], plan, clients=4, hold_s=0.005) as running:
            for _ in range(4):
                await asyncio.sleep(0.3)
                valkey.command("FLUSHALL")
    assert running.admitted * 10 <= 5000
