"""How late two routers that are far from their store hear of each other, and what it costs: a real Valkey, real delays.

One router sends prompts to backends at random moments, and the other waits to hear of each: of its blocks, and of the
leases. Both are behind a line of their own that delays each way (sim/distance).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from bench.growth.sharing import counters
from router import clock
from router.config import parse
from router.core.params import Params
from router.store.fleet_exchange import FleetExchange
from router.store.open import open_store
from router.store.shared import SharedStore
from router.store.tidings import Counts
from sim.distance import Distance
from tests.support.valkey import Valkey

#: Prompts per second, blocks of each, and backends with something in flight.
PROMPTS_PER_S = 30.0
PROMPT_BLOCKS = 30
BUSY_BACKENDS = 30
WARM_S = 3.0
MARK = "eu/mark"


@dataclass(frozen=True, slots=True)
class Telling:
    rtt_s: float
    #: from the decision until the other router knew, sorted: of blocks, and of leases
    blocks_s: list[float]
    leases_s: list[float]
    prompts: int
    #: of both routers together, at the store
    bytes_per_s: float
    commands_per_s: float

    @property
    def bytes_per_prompt(self) -> float:
        return self.bytes_per_s / PROMPTS_PER_S


class _Teller:
    """One router's leases and prompts, and when the other hears of them."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.serial = 0
        self.news: list[tuple[str, list[int]]] = []
        self.sent_s: dict[int, float] = {}
        self.blocks_s: list[float] = []
        self.leases_s: list[float] = []
        self._leases_heard = 0

    def send(self) -> None:
        self.serial += 1
        blocks = [self.serial, *(self._rng.getrandbits(32) for _ in range(PROMPT_BLOCKS - 1))]
        self.news.append((f"eu/{self.serial % BUSY_BACKENDS}", blocks))
        self.sent_s[self.serial] = clock.monotonic_s()

    def counts(self) -> dict[str, tuple[int, int]]:
        busy = {f"eu/{n}": (3 + n % 7, 1000 + n) for n in range(BUSY_BACKENDS)}
        return busy | {MARK: (self.serial, 0)}

    def take_news(self) -> list[tuple[str, list[int]]]:
        news, self.news = self.news, []
        return news

    def learned(self, _backend: str, blocks: Sequence[int]) -> None:
        self.blocks_s.append(clock.monotonic_s() - self.sent_s[blocks[0]])

    def heard(self, counts: Counts) -> None:
        serial = counts.get(MARK, (0, 0))[0]
        for known in range(self._leases_heard + 1, serial + 1):
            self.leases_s.append(clock.monotonic_s() - self.sent_s[known])
        self._leases_heard = max(self._leases_heard, serial)


async def _telling(valkey: Valkey, rtt_s: float, seconds: float) -> Telling:
    rng = random.Random(1)
    teller = _Teller(rng)
    # Counts fade with age; those of this measurement are to arrive as they are.
    params = Params(peers_full_s=60.0, peers_gone_s=61.0)
    async with AsyncExitStack() as stack:
        exchanges = []
        for name in ("here", "there"):
            line = await stack.enter_async_context(Distance(valkey.port, rtt_s))
            store = open_store(parse(f'[store]\nredis = "{line.url}"\n', "bench", env={}), router_name=name)
            assert isinstance(store, SharedStore)
            await store.start()
            stack.push_async_callback(store.stop)
            tells = name == "here"
            exchange = FleetExchange(
                store,
                teller.counts if tells else dict,
                (lambda _counts: None) if tells else teller.heard,
                monotonic_s=clock.monotonic_s,
                params=params,
                news=teller.take_news if tells else tuple,
                learned=(lambda _backend, _blocks: None) if tells else teller.learned,
            )
            await exchange.start()
            stack.push_async_callback(exchange.stop)
            exchanges.append(exchange)
        await asyncio.sleep(WARM_S)
        before, began_s = counters(valkey), clock.monotonic_s()
        while clock.monotonic_s() - began_s < seconds:
            teller.send()
            await asyncio.sleep(rng.expovariate(PROMPTS_PER_S))
        after, spent_s = counters(valkey), clock.monotonic_s() - began_s
        await asyncio.sleep(1.0 + 2 * rtt_s)
    moved = after["in"] + after["out"] - before["in"] - before["out"]
    commands = after["commands"] - before["commands"]
    return Telling(
        rtt_s, sorted(teller.blocks_s), sorted(teller.leases_s), teller.serial, moved / spent_s, commands / spent_s
    )


def telling(rtt_s: float, *, seconds: float) -> Telling:
    with Valkey(unix=False) as valkey:
        return asyncio.run(_telling(valkey, rtt_s, seconds))
