"""Routers far from one store sell exactly the limits of a key, whatever happens to them and to their lines.

The routers' own code over a model of the store (``tests/support/model_store``), in virtual time. Each example is a story:
demand moves between routers, lines are cut and mended, connections end with questions and answers on the way, routers
die. At every moment the sum over all routers is checked, and at the end the ledger.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import Plan
from router.core.limits import INDEX, Amounts
from router.store.base import Key, Reservation
from router.store.scripts import account_keys
from router.store.shared import SharedStore
from tests.support.effort import examples
from tests.support.model_store import ModelLink, ModelServer
from tests.support.virtual_time import run

RTTS_S = (0.001, 0.09, 0.22)
PLAN = Plan("default", requests_per_minute=300, tokens_per_minute=30_000, concurrent=8, budget_usd_month=0.05)
KEY = Key("k1", "k1", "t", PLAN, 0.0, False)
BUDGET = INDEX["budget"]


@dataclass
class Router:
    rtt_s: float
    store: SharedStore
    link: ModelLink
    alive: bool = True
    inflight: set[int] = field(default_factory=set)


@dataclass
class World:
    """``requests``, ``tokens`` and ``microusd`` are what was really used, or is reserved by a request in progress."""

    seed: int
    on_down: str = "deny"
    plan: Plan = PLAN
    requests: int = 0
    tokens: int = 0
    microusd: int = 0
    most_at_once: int = 0
    refused: int = 0
    over: bool = False
    strict: bool = True  # check every sum at every moment
    pause_s: float = 0.05  # of a client that was refused
    wall_step_s: float = 0.0  # by which the routers' wall clocks are wrong
    routers: list[Router] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.loop = asyncio.get_running_loop()
        self.server = ModelServer(self.loop.time)
        self.key = Key("k1", "k1", "t", self.plan, 0.0, False)
        self.serial = 0

    async def start(self, rtts_s: tuple[float, ...] = RTTS_S) -> None:
        for rtt_s in rtts_s:
            self.routers.append(await self.new_router(rtt_s))
        await asyncio.sleep(3.0)
        self.began_s = self.loop.time()

    async def new_router(self, rtt_s: float) -> Router:
        link = ModelLink(self.server, rtt_s, self.rng)
        store = SharedStore(
            link,
            {"default": self.plan},
            router_name="r",
            on_down=self.on_down,
            monotonic_s=self.loop.time,
            wall_s=lambda: self.loop.time() + 1e9 + self.wall_step_s,
        )
        await store.start()
        return Router(rtt_s, store, link)

    async def client(self, pick: Any) -> None:
        while not self.over:
            router: Router = pick()
            if not router.alive:
                await asyncio.sleep(0.05)
                continue
            tokens, microusd = self.rng.randint(1, 200), self.rng.randint(1, 200)
            amounts = Amounts(1, tokens, 0, microusd)
            taken = router.store.reserve_now(self.key, amounts, "r", self.loop.time())
            if taken is None:
                taken = await router.store.reserve(self.key, amounts, "r")
            if not isinstance(taken, Reservation):
                self.refused += 1
                await asyncio.sleep(self.pause_s * self.rng.uniform(0.5, 2.0))
            elif router.alive:
                await self.serve(router, taken, tokens, microusd)

    async def serve(self, router: Router, taken: Reservation, tokens: int, microusd: int) -> None:
        self.serial += 1
        serial = self.serial
        router.inflight.add(serial)
        self.count(1, tokens, microusd)
        await asyncio.sleep(self.rng.uniform(0.01, 0.4))
        if router.alive:
            router.inflight.discard(serial)
            used_tokens, used_microusd = self.rng.randint(0, tokens), self.rng.randint(0, microusd)
            self.tokens -= tokens - used_tokens
            self.microusd -= microusd - used_microusd
            router.store.settle(taken, Amounts(1, used_tokens, 0, used_microusd))

    def count(self, requests: int, tokens: int, microusd: int) -> None:
        self.requests += requests
        self.tokens += tokens
        self.microusd += microusd
        self.most_at_once = max(self.most_at_once, sum(len(r.inflight) for r in self.routers))
        if self.strict:
            self.check()

    def check(self) -> None:
        self.check_with(1.0)

    def check_with(self, part: float) -> None:
        """No more than this part of the limits."""
        minutes = part * (1 + (self.loop.time() - self.began_s) / 60)
        assert self.requests <= (self.plan.requests_per_minute or 10**9) * minutes
        assert self.tokens <= (self.plan.tokens_per_minute or 10**9) * minutes
        assert self.microusd <= 1e6 * (self.plan.budget_usd_month or 10**9)
        assert self.most_at_once <= part * (self.plan.concurrent or 10**9)

    async def crash(self, at: int) -> None:
        """It is gone, and so are its requests; another one starts in its place."""
        old = self.routers[at]
        old.alive = False
        old.inflight.clear()
        old.link.cut = True
        old.link.break_off()
        self.routers[at] = await self.new_router(old.rtt_s)
        await old.store.stop()

    async def end(self) -> None:
        """Lines work, everybody leaves, and what is still on its way arrives."""
        self.over = True
        for router in self.routers:
            router.link.cut = False
        await asyncio.sleep(20.0)
        for router in self.routers:
            await router.store.stop()

    @property
    def charged(self) -> int:
        return self.server.accounts[account_keys("k1")[0]].used[BUDGET]


#: Long enough for a router that was cut off to find the store again.
_AFTERWARDS_S = 5.0
EVENT = st.tuples(
    st.sampled_from(["cut", "break", "crash", "move"]),
    st.integers(0, len(RTTS_S) - 1),
    st.floats(0.05, 2.5),
)


async def story(seed: int, events: list[tuple[str, int, float]]) -> World:
    world = World(seed)
    await world.start()
    demand = [0]

    def pick() -> Router:
        return world.routers[demand[0] if world.rng.random() < 0.9 else world.rng.randrange(len(RTTS_S))]

    clients = [asyncio.ensure_future(world.client(pick)) for _ in range(16)]
    for what, where, for_s in events:
        router = world.routers[where]
        if what == "cut":
            router.link.cut = True
            router.link.break_off()
            await asyncio.sleep(for_s)
            router.link.cut = False
        elif what == "break":
            router.link.break_off()
        elif what == "crash":
            await world.crash(where)
        else:
            demand[0] = where
        await asyncio.sleep(for_s)
    await asyncio.sleep(_AFTERWARDS_S)
    await world.end()
    await asyncio.gather(*clients)
    return world


@examples(1)
@given(st.integers(0, 1000), st.lists(EVENT, min_size=1, max_size=8))
def test_no_limit_is_exceeded_and_the_ledger_adds_up(seed: int, events: list[tuple[str, int, float]]) -> None:
    world = run(story(seed, events))
    assert world.requests > 0
    if any(what == "crash" for what, _, _ in events):
        assert world.charged >= world.microusd
    else:
        assert world.charged == world.microusd


def test_clocks_of_routers_that_step_by_an_hour_change_nothing() -> None:
    """The store's clock decides, and time that never goes back; so both runs are the same to the last request."""

    async def story(steps_s: tuple[float, ...]) -> World:
        world = World(7)
        await world.start()
        clients = [asyncio.ensure_future(world.client(lambda: world.rng.choice(world.routers))) for _ in range(8)]
        for step_s in steps_s:
            world.wall_step_s += step_s
            await asyncio.sleep(2.0)
        await world.end()
        await asyncio.gather(*clients)
        return world

    still, stepped = run(story((0.0, 0.0, 0.0))), run(story((3600.0, -7200.0, 3600.0)))
    assert still.requests > 50
    for name in ("requests", "tokens", "microusd", "refused", "most_at_once", "charged"):
        assert getattr(stepped, name) == getattr(still, name), name


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_step_of_the_clock_of_the_store_is_worth_one_burst_at_most(step_s: float) -> None:
    async def story() -> World:
        world = World(3, plan=Plan("default", requests_per_minute=60), strict=False)
        await world.start()
        clients = [asyncio.ensure_future(world.client(lambda: world.rng.choice(world.routers))) for _ in range(8)]
        await asyncio.sleep(10.0)
        world.server.step_s += step_s
        await asyncio.sleep(20.0)
        await world.end()
        await asyncio.gather(*clients)
        return world

    world = run(story())
    assert 60 + 25 <= world.requests <= 60 + 30 + (62 if step_s > 0 else 1)


def test_five_minutes_cut_off_cost_a_share_and_are_paid_back() -> None:
    """The region spends what it holds, then its third from where the key stood; afterwards the books add up to 0."""
    plan = Plan("default", requests_per_minute=120, tokens_per_minute=12_000, concurrent=6, budget_usd_month=1.0)

    async def story() -> tuple[World, int, int]:
        world = World(5, on_down="share", plan=plan, strict=False, pause_s=0.5)
        await world.start()
        clients = [
            asyncio.ensure_future(world.client(lambda at=at: world.routers[at])) for at in range(3) for _ in range(3)
        ]
        await asyncio.sleep(60.0)
        lost = world.routers[2]
        lost.link.cut = True
        lost.link.break_off()
        before = world.requests
        await asyncio.sleep(5.0)
        soon = world.requests - before
        await asyncio.sleep(295.0)
        during = world.requests
        world.check_with(1 + 1 / 3)
        lost.link.cut = False
        await asyncio.sleep(20.0)
        assert lost.store.state == "up"
        await world.end()
        await asyncio.gather(*clients)
        return world, soon, during

    world, soon, during = run(story())
    assert soon <= 5 * 2 * (1 + 1 / 3) + 8 + 2, "no fresh burst"
    assert during >= 2 * 360, "the others are not held up"
    assert world.charged == world.microusd


@pytest.mark.parametrize("on_down", ["deny", "share"])
@pytest.mark.parametrize("away_s", [0.5, 2.0])
def test_a_store_that_comes_back_empty_gives_no_place_twice(on_down: str, away_s: float) -> None:
    """Questions were under way when it went. Their slots, which it may never have had, free no place of others."""

    async def story() -> World:
        world = World(1, on_down=on_down, plan=Plan("default", concurrent=6))
        await world.start((0.001, 0.03, 0.166))
        clients = [asyncio.ensure_future(world.client(lambda: world.rng.choice(world.routers))) for _ in range(30)]
        await asyncio.sleep(3.0)
        for router in world.routers:
            router.link.cut = True
            router.link.break_off()
        world.server.lose_everything()
        await asyncio.sleep(away_s)
        for router in world.routers:
            router.link.cut = False
        await asyncio.sleep(10.0)
        await world.end()
        await asyncio.gather(*clients)
        return world

    world = run(story())
    assert world.most_at_once == 6
    assert world.requests > 200


@pytest.mark.parametrize("rtt_s", [0.001, 0.09, 0.22])
def test_nearly_all_places_can_be_used_from_anywhere(rtt_s: float) -> None:
    """Also after the demand has come from elsewhere."""

    async def used() -> float:
        world = World(1, plan=Plan("default", concurrent=8))
        await world.start((0.166, rtt_s))
        demand = [0]
        clients = [asyncio.ensure_future(world.client(lambda: world.routers[demand[0]])) for _ in range(40)]
        await asyncio.sleep(5.0)
        demand[0] = 1
        taken_s, began_s = 0.0, world.loop.time()
        while world.loop.time() < began_s + 20.0:
            taken_s += 0.01 * sum(len(r.inflight) for r in world.routers)
            await asyncio.sleep(0.01)
        await world.end()
        await asyncio.gather(*clients)
        return taken_s / (8 * 20.0)

    assert run(used()) >= 0.9
