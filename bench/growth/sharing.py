"""Routers tell each other their counts through a real store: as many routers as asked for, in one process.

Nothing but the exchange runs here, each router with connections of its own. The cost of one period follows from the
counters of the server and the clock of one router's thread; a second of a fleet from how long its periods are.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from router import clock
from router.config import Config, parse
from router.core.params import Params
from router.store.fleet_exchange import KEEP_S, FleetExchange, period_s
from router.store.open import open_store
from router.store.shared import SharedStore
from router.store.tidings import Counts, Tidings
from router.tasks import spawn, stop
from tests.support.valkey import Valkey


@dataclass(frozen=True, slots=True)
class Shared:
    routers: int
    busy_backends: int
    #: other routers whose news was not too old: all of them, unless this process was too slow to play them
    heard: float
    #: of one period: what a router sends and gets, and processor time at the server and at the router
    sent_bytes: float
    got_bytes: float
    server_us: float
    router_us: float

    @property
    def per_s(self) -> float:
        """Periods of all routers together."""
        return self.routers / period_s(self.routers - 1, self.busy_backends)

    @property
    def server_ratio(self) -> float:
        """The share of one processor of the server that they take."""
        return self.per_s * self.server_us / 1e6

    @property
    def router_ratio(self) -> float:
        return self.router_us / period_s(self.routers - 1, self.busy_backends) / 1e6

    @property
    def bytes_per_s(self) -> float:
        return self.per_s * (self.sent_bytes + self.got_bytes)


def _config(url: str) -> Config:
    return parse(f'[store]\nredis = "{url}"\n', "bench", env={})


class _Others(threading.Thread):
    """Routers with a loop of their own: what they do does not count as time of the one that is measured."""

    def __init__(self, config: Config, names: list[str]) -> None:
        super().__init__(daemon=True)
        self._config, self._names = config, names
        self._stores: list[SharedStore] = []
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def do(self, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def open(self) -> None:
        for name in self._names:
            store = open_store(self._config, router_name=name)
            assert isinstance(store, SharedStore)
            await store.start()
            self._stores.append(store)
        self._listening = [spawn(store.listen(lambda _: None), name="listener") for store in self._stores]

    async def tell(self, serial: int, counts: Counts, keep: bool) -> None:
        for store in self._stores:
            message = Tidings("bench", serial, counts).encoded()
            await store.exchange(message if keep else b"", message, read=keep)

    async def close(self) -> None:
        await stop(*self._listening)
        for store in self._stores:
            await store.stop()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join()


async def _shared(valkey: Valkey, routers: int, busy_backends: int, rounds: int) -> Shared:
    config = _config(valkey.url)
    keeps_every = max(1, round(KEEP_S / period_s(routers - 1, busy_backends)))
    others = _Others(config, [f"router-{n}" for n in range(1, routers)])
    store = open_store(config, router_name="router-0")
    assert isinstance(store, SharedStore)
    async with AsyncExitStack() as stack:
        others.start()
        stack.callback(others.end)
        await store.start()
        stack.push_async_callback(store.stop)
        await others.do(others.open())
        stack.push_async_callback(lambda: others.do(others.close()))
        reader = FleetExchange(store, dict, lambda counts: None, monotonic_s=clock.monotonic_s, params=Params())
        listening = spawn(store.listen(reader.hear), name="listener")
        stack.push_async_callback(lambda: stop(listening))
        before = counters(valkey)
        spent_s, heard = 0.0, 0
        for serial in range(rounds):
            counts: Counts = {f"r{n % 5}/b{n}": (3 + (n + serial) % 7, 1000 + n) for n in range(busy_backends)}
            keep = serial % keeps_every == 0
            began_s = time.thread_time()
            await others.do(others.tell(serial, counts, keep))
            await reader.publish(counts, keep=keep)
            spent_s += time.thread_time() - began_s
            heard += reader.others
        after = counters(valkey)
    times = rounds * routers
    sent, got, server_us = ((after[name] - before[name]) / times for name in ("in", "out", "us"))
    return Shared(routers, busy_backends, heard / rounds, sent, got, server_us, spent_s / rounds * 1e6)


def counters(valkey: Valkey) -> dict[str, float]:
    text = valkey.command("INFO", "everything").decode()

    def number(name: str) -> float:
        found = re.search(rf"^{name}:([0-9.]+)", text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    used_s = number("used_cpu_user") + number("used_cpu_sys")
    return {
        "in": number("total_net_input_bytes"),
        "out": number("total_net_output_bytes"),
        "us": used_s * 1e6,
        "commands": number("total_commands_processed"),
    }


def shared(routers: int, busy_backends: int, *, periods: int) -> Shared:
    with Valkey() as valkey:
        rounds = max(2, periods // routers)
        return asyncio.run(_shared(valkey, routers, busy_backends, rounds))
