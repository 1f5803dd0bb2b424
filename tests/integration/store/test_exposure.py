"""A habit of short answers buys nobody more than the limit, with allowances and over several routers."""

from __future__ import annotations

import asyncio
import time

import pytest

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Key, Reservation
from router.store.shared import SharedStore
from tests.integration.store.routers import eventually, key_of, router
from tests.support.valkey import Valkey

LONG = 200


def tokens(n: int) -> Amounts:
    return Amounts(1, 0, n, 10 * n)  # at ten dollars a million


async def take(store: SharedStore, key: Key, usual: int, most: int) -> Reservation | None:
    args = (key, tokens(usual), "r")
    taken = store.reserve_now(*args, time.monotonic(), tokens(most)) or await store.reserve(*args, tokens(most))
    return taken if isinstance(taken, Reservation) else None


@pytest.mark.parametrize("plan", [Plan("default", tokens_per_minute=2000), Plan("default", budget_usd_month=0.02)])
async def test_sixty_long_answers_after_many_short_ones(shared_valkey: Valkey, plan: Plan) -> None:
    shared_valkey.command("FLUSHALL")
    key = key_of(plan)
    async with router(shared_valkey.url, plan) as one, router(shared_valkey.url, plan, name="two") as two:
        await eventually(lambda: one._heart.routers == two._heart.routers == 2)
        for _ in range(20):  # the habit; both have seen where the account stands
            for store in (one, two):
                taken = await take(store, key, 10, LONG)
                if taken is not None:
                    store.settle(taken, tokens(5))
        began_s = time.monotonic()
        answers = await asyncio.gather(*(take(store, key, 26, LONG) for store in (one, two) for _ in range(30)))
        let_in = [taken for taken in answers if taken is not None]
        assert len(let_in) >= 5
        for store, taken in zip([one] * 30 + [two] * 30, answers, strict=True):
            if taken is not None:
                store.settle(taken, tokens(LONG))
        again = await asyncio.gather(*(take(store, key, 26, LONG) for store in (one, two) for _ in range(30)))
        sold = LONG * (len(let_in) + sum(taken is not None for taken in again))
        refilled = 0 if plan.tokens_per_minute is None else 2000 / 60 * (time.monotonic() - began_s)
        assert sold <= 2000 + refilled, "no more than the limit"


async def test_a_busy_key_far_from_its_limit_is_served_by_habit(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    plan = Plan("default", tokens_per_minute=10**8)
    key = key_of(plan)
    async with router(shared_valkey.url, plan) as store:
        costs, sources = set(), []
        for _ in range(300):
            taken = await take(store, key, 20, 4096)
            assert taken is not None
            costs.add(taken.cost[1])
            sources.append(taken.source)
            await asyncio.sleep(0.002)
            store.settle(taken, tokens(20))
        assert min(costs) == 20
        assert sources[100:].count("allowance") >= 150
        assert not any(store._purses["k1"].exposed)


@pytest.mark.parametrize("habit", [False, True])
async def test_a_guess_takes_what_is_left_of_a_budget(shared_valkey: Valkey, habit: bool) -> None:
    """A quarter of a budget is left at most when it is refused, and that may be for a month. One request gets it."""
    shared_valkey.command("FLUSHALL")
    plan = Plan("default", budget_usd_month=1.0)
    key, certain = key_of(plan), Amounts(1, 10, 0, 1000)
    guess = Amounts(1, 10, 4096, 250_000, certain)
    async with router(shared_valkey.url, plan) as store:
        spent = await store.reserve(key, Amounts(1, 0, 0, 900_000), "r")
        assert isinstance(spent, Reservation)
        store.settle(spent, Amounts(1, 0, 0, 900_000))
        usual, most = (Amounts(1, 10, 9, 2000, certain), guess) if habit else (guess, None)
        answers = await asyncio.gather(*(store.reserve(key, usual, "r", most) for _ in range(20)))
        let_in = [taken for taken in answers if isinstance(taken, Reservation)]
        assert 1 <= len(let_in) <= 3, "one gets the rest, and what an allowance held may serve another"
        for taken in let_in:
            store.settle(taken, Amounts(1, 10, 9, 2000))

        async def again() -> bool:
            taken = await store.reserve(key, usual, "r", most)
            if isinstance(taken, Reservation):
                store.settle(taken, None)
            return isinstance(taken, Reservation)

        await eventually(again)
