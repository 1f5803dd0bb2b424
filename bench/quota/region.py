"""One region: the store of a router as in production, and clients that spend one key as fast as it lets them.

Each line on stdin is a shift as JSON (``Shift``); each line on stdout one thing that happened, at once, so that nothing
is lost when the process is killed: ``ready``, ``took KEY SERIAL BEGIN TOKENS MICROUSD``, ``over KEY SERIAL END``,
``waited KEY SECONDS SOURCE AT``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from dataclasses import dataclass
from typing import Any

import uvloop

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Key, Reservation
from router.store.redis import RedisLink
from router.store.shared import SharedStore

#: A client that is refused comes back after a part of this.
RETRY_S = 0.1

_serial = itertools.count()


@dataclass(frozen=True, slots=True)
class Shift:
    """``clients`` spend ``key`` from ``begin_s`` to ``end_s`` of the wall clock. A request takes ``tokens`` and
    ``microusd`` and lasts ``hold_s`` on average; a client rests for ``pace_s`` on average between two."""

    key: str
    plan: dict[str, Any]
    clients: int
    begin_s: float
    end_s: float
    tokens: int = 100
    microusd: int = 100
    hold_s: float = 0.1
    pace_s: float = 0.0


async def client(store: SharedStore, key: Key, shift: Shift, rng: random.Random) -> None:
    amounts = Amounts(1, shift.tokens, 0, shift.microusd)
    while (now_s := time.time()) < shift.end_s:
        began_s = time.monotonic()
        taken = store.reserve_now(key, amounts, "r", began_s) or await store.reserve(key, amounts, "r")
        if not isinstance(taken, Reservation):
            await asyncio.sleep(RETRY_S * rng.uniform(0.2, 1.0))
            continue
        print("waited", key.id, round(time.monotonic() - began_s, 5), taken.source, now_s, flush=True)
        hold_s = shift.hold_s * rng.uniform(0.5, 1.5)
        serial = next(_serial)
        print("took", key.id, serial, time.time(), shift.tokens, shift.microusd, flush=True)
        await asyncio.sleep(hold_s)
        print("over", key.id, serial, time.time(), flush=True)
        store.settle(taken, amounts)
        await asyncio.sleep(shift.pace_s * rng.expovariate(1.0))


async def work(store: SharedStore, shift: Shift, rng: random.Random) -> None:
    await asyncio.sleep(max(0.0, shift.begin_s - time.time()))
    plan = Plan("default", **shift.plan)
    key = Key(shift.key, shift.key, "t", plan, 0.0, False)
    await asyncio.gather(*(client(store, key, shift, rng) for _ in range(shift.clients)))


async def main(url: str, name: str) -> None:
    store = SharedStore(
        RedisLink(url),
        {"default": Plan("default")},
        router_name=name,
        on_down="share",
        monotonic_s=time.monotonic,
        wall_s=time.time,
    )
    await store.start()
    while store.state != "up":  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0.02)
    print("ready", flush=True)
    rng, shifts = random.Random(name), set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        shifts.add(asyncio.ensure_future(work(store, Shift(**json.loads(line)), rng)))
    await asyncio.gather(*shifts)
    await store.stop()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
