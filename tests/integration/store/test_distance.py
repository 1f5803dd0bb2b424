"""A router that is far from its store: the store is up and stays so, and requests are served."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from router.config import Plan
from router.core.limits import REQUESTS, Amounts
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
    server: Valkey,
    rtt_s: float,
    jitter_s: float = 0.0,
    *,
    plan: Plan = PLAN,
    on_down: str = "share",
    lease_s: float = 15.0,
) -> AsyncIterator[tuple[SharedStore, Distance]]:
    server.command("FLUSHALL")
    async with (
        Distance(server.port, rtt_s, jitter_s) as line,
        router(line.url, plan, name="far", on_down=on_down, lease_s=lease_s) as store,
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


async def test_a_key_that_was_served_here_does_not_wait_again(server: Valkey) -> None:
    """Nor after a pause that is longer than the lease of its slots."""
    key = key_of(PLAN)
    async with far(server, 0.166, lease_s=2.0) as (store, _):
        sources = []
        for pause_s in [0.0] * 10 + [3.0] * 2:
            await asyncio.sleep(pause_s)
            taken, _ = await ask(store, key)
            assert isinstance(taken, Reservation)
            sources.append(taken.source)
            await asyncio.sleep(0.2)
            store.settle(taken, Amounts(1, 10, 0, 100))
        assert sources == ["store", *["allowance"] * 11]


async def test_what_is_held_covers_the_way_to_the_store(server: Valkey) -> None:
    key = key_of(PLAN)
    async with far(server, 0.3) as (store, _):
        sources = []
        for _ in range(150):
            taken, _ = await ask(store, key)
            if isinstance(taken, Reservation):
                store.settle(taken, Amounts(1, 10, 0, 100))
            sources.append(taken.source if isinstance(taken, Reservation) else f"refused by {taken.limit}")
            await asyncio.sleep(0.01)
        refused = {source for source in sources if source.startswith("refused")}
        assert refused <= {"refused by store"}, "a busy machine may make the first answers too late"
        assert sources[75:].count("allowance") >= 55, sources


async def test_what_a_far_router_keeps_is_a_small_part_and_given_back(server: Valkey) -> None:
    plan = Plan("default", requests_per_minute=60, tokens_per_minute=6000, concurrent=20)
    key = key_of(plan)
    async with router(server.url, plan, name="near") as near:
        async with far(server, 0.05, plan=plan) as (store, _):
            taken, _ = await ask(store, key)
            while not isinstance(taken, Reservation):  # a busy machine
                taken, _ = await ask(store, key)
            store.settle(taken, Amounts(1, 10, 0, 100))
            await asyncio.sleep(0.5)
            kept = await used(near, key)
            assert 0 < kept["concurrent"] <= 2
            assert kept["tokens"] <= 6000 / 4
        await asyncio.sleep(0.2)
        assert (await used(near, key))["concurrent"] == 0


async def used(store: SharedStore, key: Key) -> dict[str, float]:
    return {s.limit: s.used + s.held for s in await store.quota(key)}


async def test_a_router_that_is_cut_off_gives_out_what_it_holds_and_then_its_share(server: Valkey) -> None:
    """From where the account was last seen, never afresh; in the end nothing of it is forgotten."""
    plan = Plan("default", requests_per_minute=600, budget_usd_month=1.0)
    key = key_of(plan)
    admitted = 0

    async def spend(store: SharedStore, times: int) -> int:
        let_in = 0
        for _ in range(times):
            taken, _ = await ask(store, key)
            if isinstance(taken, Reservation):
                let_in += 1
                store.settle(taken, Amounts(1, 10, 0, 100))
        return let_in

    async with router(server.url, plan, name="near") as near, far(server, 0.05, plan=plan) as (store, line):
        await eventually(lambda: store._heart.routers == 2)
        async with asyncio.timeout(30):
            while (
                left := _left(store, key)
            ) is None or left > 200:  # on a busy machine near is cut off for moments, too
                admitted += await spend(near, 50)
                admitted += await spend(store, 1)
        line.mode = "cut"
        admitted += await spend(store, 1)
        await eventually(lambda: store.state == "down", 10.0)
        purse = store._purses[key.id]
        left, held, seen_s = _left(store, key), purse.balance[REQUESTS], purse.standing_s
        assert left is not None
        alone = await spend(store, 400)
        admitted += alone
        share = left / 2 + 5 * (time.monotonic() - seen_s)
        assert 0 < alone <= held + share + 2, "half of what was left, and what it held"
        assert left < 400, "never afresh"
        line.mode = "through"
        await eventually(lambda: store.state == "up")

        async def adds_up() -> bool:
            """Also with the answers that were under way when the line was cut."""
            for each in (store, near):
                await each._ledger.flush()
            return round((await used(near, key))["budget"] * 1e6 / 100) == admitted

        await eventually(adds_up)


@pytest.mark.parametrize("answers", ["late", "lost"])
async def test_the_first_answer_for_an_account_may_be_late_and_costs_nothing(server: Valkey, answers: str) -> None:
    """Of a sum, too, which is given back only within the period in which it was taken."""
    plan = Plan("default", requests_per_minute=6000, budget_usd_month=1.0)
    key = key_of(plan)
    async with far(server, 0.02, plan=plan) as (store, line):
        await ask(store, key_of(plan, "other"))
        line.rtt_s = 0.3
        asked = asyncio.create_task(ask(store, key))
        await asyncio.sleep(0.225)  # the question is there, and its answer is not here
        if answers == "lost":
            line.mode = "cut"
        taken, _ = await asked
        line.rtt_s, line.mode = 0.02, "through"
        admitted = isinstance(taken, Reservation)
        if isinstance(taken, Reservation):
            store.settle(taken, Amounts(1, 10, 0, 100))

        async def adds_up() -> bool:
            await store._ledger.flush()
            return round((await used(store, key))["budget"] * 1e6 / 100) == admitted

        await eventually(adds_up)


def _left(store: SharedStore, key: Key) -> float | None:
    """The requests that were left of 600 a minute when the store was last heard."""
    purse = store._purses.get(key.id)
    return None if purse is None or purse.standing is None else 600 * (1 - purse.standing.used[REQUESTS] / 60e6)
