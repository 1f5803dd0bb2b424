"""Routers tell each other their counts through a real store: as many routers as asked for, in one process.

Nothing but the exchange runs here, each router with connections of its own. The cost of one exchange follows from the
counters of the server and the clock of this process, a second of a fleet from how often its routers exchange.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from router import clock
from router.config import Config, parse
from router.core.params import Params
from router.store.fleet_exchange import Counts, FleetExchange, encoded, period_s
from router.store.open import open_store
from router.store.shared import SharedStore
from tests.support.valkey import Valkey


@dataclass(frozen=True, slots=True)
class Shared:
    routers: int
    busy_backends: int
    #: other routers whose news was not too old: all of them, unless this process was too slow to play them
    heard: float
    #: of one exchange: what a router sends and gets, and processor time at the server and at the router
    sent_bytes: float
    got_bytes: float
    server_us: float
    router_us: float

    @property
    def per_s(self) -> float:
        """Exchanges of the whole fleet."""
        return self.routers / period_s(self.routers - 1)

    @property
    def server_ratio(self) -> float:
        """The share of one processor of the server that they take."""
        return self.per_s * self.server_us / 1e6

    @property
    def router_ratio(self) -> float:
        return self.router_us / period_s(self.routers - 1) / 1e6

    @property
    def bytes_per_s(self) -> float:
        return self.per_s * (self.sent_bytes + self.got_bytes)


def _config(url: str) -> Config:
    return parse(f'[store]\nredis = "{url}"\n', "bench", env={})


async def _shared(valkey: Valkey, routers: int, busy_backends: int, rounds: int) -> Shared:
    config = _config(valkey.url)
    counts: Counts = {f"r{n % 5}/b{n}": (3 + n % 7, 1000 + n) for n in range(busy_backends)}
    message = encoded(counts, [])
    async with AsyncExitStack() as stack:
        stores = []
        for n in range(routers):
            store = open_store(config, router_name=f"router-{n}")
            assert isinstance(store, SharedStore)
            await store.start()
            stack.push_async_callback(store.stop)
            stores.append(store)
        reader = FleetExchange(stores[0], dict, lambda counts: None, monotonic_s=clock.monotonic_s, params=Params())
        for store in stores[1:]:
            await store.exchange(message)
        before = _counters(valkey)
        spent_s, heard = 0.0, 0
        for _ in range(rounds):
            # All of them exchange, and one of them also understands what it reads.
            for store in stores[1:]:
                await store.exchange(message)
            began_s = time.process_time()
            await reader.publish(counts)
            reader.peers()
            spent_s += time.process_time() - began_s
            heard += reader.others
        after = _counters(valkey)
    times = rounds * routers
    sent, got, server_us = ((after[name] - before[name]) / times for name in ("in", "out", "us"))
    return Shared(routers, busy_backends, heard / rounds, sent, got, server_us, spent_s / rounds * 1e6)


def _counters(valkey: Valkey) -> dict[str, float]:
    text = valkey.command("INFO", "everything").decode()

    def number(name: str) -> float:
        found = re.search(rf"^{name}:([0-9.]+)", text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    used_s = number("used_cpu_user") + number("used_cpu_sys")
    return {"in": number("total_net_input_bytes"), "out": number("total_net_output_bytes"), "us": used_s * 1e6}


def shared(routers: int, busy_backends: int, *, exchanges: int) -> Shared:
    with Valkey() as valkey:
        rounds = max(2, exchanges // routers)
        return asyncio.run(_shared(valkey, routers, busy_backends, rounds))
