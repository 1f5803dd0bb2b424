"""Clients that spend one key through several stores at once, and a count of what they were let do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Key, Reservation
from router.store.shared import SharedStore


@dataclass
class Load:
    """``sources`` counts what let requests in; ``most_at_once`` is how many were in progress at the worst moment."""

    key: Key
    plan: Plan
    began_s: float
    admitted: int = 0
    tokens: int = 0
    inflight: int = 0
    most_at_once: int = 0
    excess: float = float("-inf")  # of requests over burst + rate x time, at the worst moment
    longest_wait_s: float = 0.0
    sources: dict[str, int] = field(default_factory=dict)

    async def spend(self, store: SharedStore, hold_s: float) -> None:
        amounts = Amounts(1, 10, 0, 10)
        while True:
            began_s = time.monotonic()
            taken = store.reserve_now(self.key, amounts, "r", began_s) or await store.reserve(self.key, amounts, "r")
            self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - began_s)
            if not isinstance(taken, Reservation):
                await asyncio.sleep(0.02)
                continue
            self._let_in(taken.source)
            try:
                await asyncio.sleep(hold_s)
            finally:
                self.inflight -= 1
                store.settle(taken, amounts)

    def _let_in(self, source: str) -> None:
        self.sources[source] = self.sources.get(source, 0) + 1
        self.admitted += 1
        self.inflight += 1
        self.most_at_once = max(self.most_at_once, self.inflight)
        per_minute = self.plan.requests_per_minute or 10**9
        right = per_minute * (1 + (time.monotonic() - self.began_s) / 60)
        self.excess = max(self.excess, self.admitted - right)


@contextlib.asynccontextmanager
async def load(
    stores: Sequence[SharedStore], plan: Plan, *, clients: int = 8, hold_s: float = 0.02
) -> AsyncIterator[Load]:
    """This number of clients at each store, until the end of the block."""
    running = Load(Key("k1", "k1", "t", plan, 0.0, False), plan, time.monotonic())
    tasks = [asyncio.ensure_future(running.spend(store, hold_s)) for store in stores for _ in range(clients)]
    try:
        yield running
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
