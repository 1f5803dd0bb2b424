"""A router that is far from its store: the store is up and stays so, and requests are served."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Key, Refusal, Reservation
from router.store.shared import SharedStore
from sim.distance import Distance
from tests.integration.store.routers import eventually, key_of, router
from tests.support.valkey import Valkey

PLAN = Plan("default", requests_per_minute=6000, tokens_per_minute=600_000, concurrent=100, budget_usd_month=100.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey(unix=False) as valkey:
        yield valkey


@contextlib.asynccontextmanager
async def far(
    server: Valkey, rtt_s: float, jitter_s: float = 0.0, *, plan: Plan = PLAN, on_down: str = "share"
) -> AsyncIterator[tuple[SharedStore, Distance]]:
    server.command("FLUSHALL")
    async with (
        Distance(server.port, rtt_s, jitter_s) as line,
        router(line.url, plan, on_down=on_down) as store,
    ):
        await eventually(lambda: store.state == "up")
        yield store, line


async def ask(store: SharedStore, key: Key, tokens: int = 10) -> tuple[Reservation | Refusal, float]:
    """As the request path asks, and how long it waited."""
    began_s = time.monotonic()
    amounts = Amounts(1, tokens, 0, 100)
    taken = store.reserve_now(key, amounts, "r", began_s) or await store.reserve(key, amounts, "r")
    return taken, time.monotonic() - began_s


@pytest.mark.parametrize("rtt_s", [0.03, 0.09, 0.166, 0.3])
async def test_a_far_store_is_up_and_serves(server: Valkey, rtt_s: float, caplog: pytest.LogCaptureFixture) -> None:
    async with far(server, rtt_s, 0.3 * rtt_s) as (store, _):
        await eventually(lambda: store.keys.loaded)
        states, sources = set(), []
        for _ in range(30):
            taken, _ = await ask(store, key_of(PLAN))
            assert isinstance(taken, Reservation), taken
            sources.append(taken.source)
            await asyncio.sleep(0.05)
            store.settle(taken, Amounts(1, 10, 0, 100))
            states.add(store.state)
        assert states == {"up"}
        assert set(sources) <= {"store", "allowance"}, sources
    assert not [r for r in caplog.records if "away" in r.getMessage()]
