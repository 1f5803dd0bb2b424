"""Routers an ocean away from their store hear of each other one round trip and a period after something has happened."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from router.core.params import Params
from router.store.fleet_exchange import GATHER_S, KEEP_S, PERIOD_S, FleetExchange
from router.store.shared import SharedStore
from router.store.tidings import Counts
from sim.distance import Distance
from tests.integration.store.routers import eventually, router
from tests.support.valkey import Valkey

#: Counts fade with age; here they are to arrive as they are.
PARAMS = Params(peers_full_s=60.0, peers_gone_s=61.0)
FAR_S = 0.3
NEAR_S = 0.001


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey(unix=False) as valkey:
        yield valkey


@dataclass
class Router:
    """A router that tells when it is asked to, and what it hears."""

    store: SharedStore
    line: Distance
    exchange: FleetExchange = field(init=False)
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    news: list[tuple[str, Sequence[int]]] = field(default_factory=list)
    learned: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    heard: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def take() -> list[tuple[str, Sequence[int]]]:
            news, self.news = self.news, []
            return news

        self.exchange = FleetExchange(
            self.store,
            lambda: self.counts,
            self.hear,
            monotonic_s=time.monotonic,
            params=PARAMS,
            news=take,
            learned=lambda backend, blocks: self.learned.append((backend, tuple(blocks))),
        )

    def hear(self, counts: Counts) -> None:
        self.heard.update(counts)


@contextlib.asynccontextmanager
async def two(server: Valkey, rtt_s: float) -> AsyncIterator[tuple[Router, Router]]:
    server.command("FLUSHALL")
    async with contextlib.AsyncExitStack() as stack:
        tellers = []
        for name in ("a", "b"):
            line = await stack.enter_async_context(Distance(server.port, rtt_s))
            store = await stack.enter_async_context(router(line.url, name=name))
            await eventually(lambda store=store: store.state == "up")  # type: ignore[misc]
            teller = Router(store, line)
            await teller.exchange.start()
            stack.push_async_callback(teller.exchange.stop)
            tellers.append(teller)
        await eventually(lambda: all(t.exchange.others == 1 and t.exchange.listens for t in tellers))
        yield tellers[0], tellers[1]


async def seconds_until(true: Callable[[], bool]) -> float:
    began_s = time.monotonic()
    await eventually(true)
    return time.monotonic() - began_s


async def test_news_and_leases_arrive_a_round_trip_later(server: Valkey) -> None:
    """Nobody waits for an answer before the next message: that would take two round trips more. The best of several
    tries counts, because the machine may be busy; none may be quicker than the line."""
    took: list[float] = []
    async with two(server, FAR_S) as (here, there):
        for number in range(4):
            here.news.append(("eu/x", (number,)))
            here.counts = {"eu/x": (number + 1, 0)}
            took.append(
                await seconds_until(
                    lambda number=number: (  # type: ignore[misc]
                        ("eu/x", (number,)) in there.learned and there.heard.get("eu/x") == (number + 1, 0)
                    )
                )
            )
    assert min(took) >= FAR_S * 0.95
    assert min(took) < FAR_S + PERIOD_S + GATHER_S + FAR_S / 2, f"{took}: a message waits for an answer"
    assert there.learned == [("eu/x", (number,)) for number in range(4)], "each once, in order"


async def test_who_is_silent_sends_little_and_who_is_busy_tells_each_block_once(server: Valkey) -> None:
    async with two(server, NEAR_S) as (here, _):
        here.counts = {"eu/x": (1, 1)}
        await asyncio.sleep(2 * KEEP_S)
        before = here.line.bytes_up
        await asyncio.sleep(4 * KEEP_S)
        silent = here.line.bytes_up - before
        before = here.line.bytes_up
        for number in range(16):
            here.news.append(("eu/x", [(number * 1000 + n) * 2654435761 % 2**32 for n in range(1000)]))
            await asyncio.sleep(KEEP_S / 4)
        busy = here.line.bytes_up - before
    # Each block once to those that listen, four bytes, and in the message that is kept for two seconds at each KEEP_S.
    assert busy > 16 * 4000
    assert busy < 16 * 4000 * 8, "more than the blocks of each prompt in a few kept messages"
    assert silent < busy / 20


async def test_a_router_that_hears_nothing_on_the_channel_reads(server: Valkey) -> None:
    """The store permits everything besides the channel: as an access list of earlier versions does."""
    with Valkey(unix=False, args=("--rename-command", "PUBLISH", "", "--rename-command", "SUBSCRIBE", "")) as closed:
        async with router(closed.url, name="a") as a, router(closed.url, name="b") as b:
            here, there = Router(a, None), Router(b, None)  # type: ignore[arg-type]
            here.counts, here.news = {"eu/x": (3, 4)}, [("eu/x", (1, 2))]
            await here.exchange.start()
            await there.exchange.start()
            try:
                await eventually(lambda: there.heard.get("eu/x") == (3, 4))
                here.news.append(("eu/x", (5,)))
                await eventually(lambda: there.learned == [("eu/x", (1, 2)), ("eu/x", (5,))])
                assert not there.exchange.listens
            finally:
                await here.exchange.stop()
                await there.exchange.stop()


async def test_what_was_said_while_the_line_was_silent_is_learned_afterwards(server: Valkey) -> None:
    async with two(server, NEAR_S) as (here, there):
        there.line.mode = "frozen"
        for number in range(5):
            here.news.append(("eu/x", (number,)))
            await asyncio.sleep(PERIOD_S)
        there.line.mode = "through"
        await eventually(lambda: sorted(there.learned) == [("eu/x", (number,)) for number in range(5)])
        here.news.append(("eu/x", (9,)))
        await eventually(lambda: ("eu/x", (9,)) in there.learned)
        assert len(there.learned) == 6


async def test_a_router_that_leaves_is_not_counted_any_more(server: Valkey) -> None:
    server.command("FLUSHALL")
    async with router(server.url, name="a") as a:
        here = Router(a, None)  # type: ignore[arg-type]
        await here.exchange.start()
        async with router(server.url, name="b") as b:
            there = Router(b, None)  # type: ignore[arg-type]
            there.counts = {"eu/x": (5, 5)}
            await there.exchange.start()
            await eventually(lambda: here.heard.get("eu/x") == (5, 5))
            await there.exchange.stop()
        await eventually(lambda: here.heard["eu/x"] == (0, 0) and here.exchange.others == 0)
        await here.exchange.stop()
