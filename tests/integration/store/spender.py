"""A router process that does nothing but spend quota: ``python -m tests.integration.store.spender '{...}'``.

Says ``ready``, is told when to start, runs its workers for ``run_s``, and prints what it did as one line of JSON. With
``until_refused`` it goes on until the limit has refused it: on a busy machine that takes longer.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import uvloop

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Key, Reservation
from router.store.redis import RedisLink
from router.store.shared import SharedStore

PATIENCE_S = 40.0


async def work(
    store: SharedStore, key: Key, task: dict[str, Any], end_s: float, rng: random.Random, done: dict[str, Any]
) -> None:
    serial = 0
    while (now_s := time.time()) < end_s or (
        task.get("until_refused") and not done["refused"] and now_s < end_s + PATIENCE_S
    ):
        tokens = rng.randint(*task["tokens"])
        serial += 1
        taken = store.reserve_now(key, Amounts(1, tokens), f"r{serial}", time.monotonic())
        if asked := taken is None:
            taken = await store.reserve(key, Amounts(1, tokens), f"r{serial}")
        assert taken is not None
        if not isinstance(taken, Reservation):
            done["unanswered"] += asked and taken.limit == "store"
            done["refused"] += taken.limit != "store"
            await asyncio.sleep(min(taken.retry_after_s or 0.05, 0.02) * rng.random())
            continue
        done["sources"][taken.source] = done["sources"].get(taken.source, 0) + 1
        began_s = done["last_s"] = time.time()
        await asyncio.sleep(task["hold_s"] * rng.random())
        done["spans"].append((began_s, time.time()))
        used = round(tokens * rng.uniform(*task["used"]))
        done["requests"] += 1
        done["tokens"] += used
        store.settle(taken, Amounts(1, used))
        await asyncio.sleep(task["pause_s"] * rng.random())


async def main() -> None:
    task = json.loads(sys.argv[1])
    plan = Plan("default", **task["plan"])
    store = SharedStore(
        RedisLink(task["url"]),
        {"default": plan},
        router_name=task["name"],
        on_down=task.get("on_down", "deny"),
        monotonic_s=time.monotonic,
        wall_s=time.time,
        lease_s=task.get("lease_s", 15.0),
    )
    await store.start()
    key = Key("k1", "k1", "t", plan, 0.0, False)
    done: dict[str, Any] = {
        "requests": 0,
        "tokens": 0,
        "sources": {},
        "spans": [],
        "unanswered": 0,
        "refused": 0,
        "last_s": 0.0,
    }
    print("ready", flush=True)
    start_s = float(await asyncio.to_thread(sys.stdin.readline))
    await asyncio.sleep(max(0.0, start_s - time.time()))
    rng, end_s = random.Random(task["name"]), start_s + task["run_s"]
    await asyncio.gather(*(work(store, key, task, end_s, rng, done) for _ in range(task["workers"])))
    await store.stop()
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
