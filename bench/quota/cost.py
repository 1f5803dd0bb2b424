"""The price of quotas at the store: questions per request of a busy key, and bytes per key."""

from __future__ import annotations

import asyncio
import socket
import time

import redis

from router.config import Plan
from router.core.limits import Amounts, cost
from router.store.base import Key, Reservation
from router.store.redis import RedisLink
from router.store.scripts import head, load_scripts, purse_keys, reserve_args
from router.store.shared import SharedStore

RATE = 1000
HOLD_S = 0.05
BATCH = 1000
#: plans whose accounts are weighed
PLANS = {
    "requests and tokens": Plan("default", requests_per_minute=600, tokens_per_minute=200_000),
    "and concurrency, and a budget": Plan(
        "default", requests_per_minute=600, tokens_per_minute=200_000, concurrent=64, budget_usd_month=100.0
    ),
}


async def questions(port: int, seconds: float) -> dict[str, float]:
    """One key, RATE requests a second through one router: how many scripts the store ran for each request. All are
    made, however late."""
    plan = Plan("default", requests_per_minute=10**6, tokens_per_minute=10**8, concurrent=10_000, budget_usd_month=1e6)
    key, amounts = Key("busy", "busy", "t", plan, 0.0, False), Amounts(1, 100, 100, 100)
    link = RedisLink(f"redis://127.0.0.1:{port}/0")
    store = SharedStore(
        link, {"default": plan}, router_name="r", on_down="deny", monotonic_s=time.monotonic, wall_s=time.time
    )
    await store.start()
    admitted = asked = 0

    async def request() -> None:
        nonlocal admitted, asked
        taken = store.reserve_now(key, amounts, "r", time.monotonic())
        while not isinstance(taken, Reservation):  # more than once where the machine stalls
            asked += 1
            taken = await store.reserve(key, amounts, "r")
        admitted += 1
        await asyncio.sleep(HOLD_S)
        store.settle(taken, amounts)

    with redis.Redis(port=port) as client:
        tasks: list[asyncio.Task[None]] = []
        began_s, before = time.monotonic(), _scripts_run(client)
        while len(tasks) < (total := int(seconds * RATE)):
            due = min(total, int((time.monotonic() - began_s) * RATE))
            tasks += [asyncio.ensure_future(request()) for _ in range(due - len(tasks))]
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        run = _scripts_run(client) - before
    await store.stop()
    return {"admitted": admitted, "scripts": run / admitted, "asked": asked / admitted}


def weigh(port: int, plan: Plan, keys: int) -> dict[str, float]:
    """Bytes per key in the store: just used, and idle, when its slots have been released and the record of the purse
    has expired (10 minutes)."""
    slots = ("r.000000000000",) if plan.limits.slots else ()
    account = purse_keys("key_000000000000", "r-01234567.1")
    with redis.Redis(port=port) as client:
        script = load_scripts().reserve
        client.script_load(script.text)
        start, units = head(plan.limits, 15_000_000, None), cost(Amounts(1, 500, 500, 1000))
        take = _packed("EVALSHA", script.sha, 3, *account, *start, *reserve_args([(units, slots)]))
        _for_each_key(port, take, BATCH)  # the first ones make the script and buffers, too
        client.flushall(asynchronous=False)
        empty = _bytes(client)
        began_s = time.monotonic()
        _for_each_key(port, take, keys)
        took_s = time.monotonic() - began_s
        used = _bytes(client)
        _for_each_key(port, _packed("DEL", account[1]), keys)
        _for_each_key(port, _packed("DEL", account[2]), keys)
        idle = _bytes(client)
    return {"used": (used - empty) / keys, "idle": (idle - empty) / keys, "per_s": keys / took_s}


def _packed(*words: str | bytes | int) -> bytes:
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _for_each_key(port: int, command: bytes, keys: int) -> None:
    """Send it for every key, whose number stands in place of the zeros."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        for first in range(0, keys, BATCH):
            last = min(first + BATCH, keys)
            line.sendall(b"".join(command.replace(b"000000000000", b"%012x" % n) for n in range(first + 1, last + 1)))
            line.sendall(b"*1\r\n$4\r\nPING\r\n")
            end = b""
            while not end.endswith(b"+PONG\r\n"):
                end = end[-16:] + line.recv(1 << 20)


def table(port: int, keys: int, seconds: float) -> str:
    found = asyncio.run(questions(port, seconds))
    lines = [
        f"one key, {RATE} requests/s: {found['scripts']:.3f} scripts per request, {found['asked']:.1%} asked themselves"
        f" ({found['admitted']:.0f} requests)",
        f"{keys} keys:                        just used     idle   new keys/s",
    ]
    for name, plan in PLANS.items():
        row = weigh(port, plan, keys)
        lines.append(f"  {name:30} {row['used']:7.0f} B {row['idle']:6.0f} B {row['per_s']:10.0f}")
    return "\n".join(lines)


def _bytes(client: redis.Redis) -> int:
    """When it is level: buffers of closed connections and tables that have shrunk are freed a little later."""
    now = _used_bytes(client)
    for _ in range(20):
        time.sleep(0.3)
        before, now = now, _used_bytes(client)
        if now == before:
            break
    return now


def _used_bytes(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])  # type: ignore[index]


def _scripts_run(client: redis.Redis) -> int:
    return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))  # type: ignore[union-attr]
