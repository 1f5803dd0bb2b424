"""Looks at a store without changing anything in it, for somebody who asks what is wrong: round trip, version, what it
deletes and what it saves, its clock, and which rights are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router.store import access
from router.store.ailments import told
from router.store.courier import Command, LinkError
from router.store.heartbeat import ROUTERS
from router.store.keysync import CHANNEL, VERSION
from router.store.patience import Patience
from router.store.scripts import load_scripts
from router.tasks import spawn, stop

_TRIPS = 5
_LISTEN_S = 3.0
_STREAM = "{mr}:check"
#: What the routers of a fleet tell each other with, besides what ``access`` tries.
_MORE = (
    access.Need("{mr}:*", "heartbeats", Command(("ZREM", ROUTERS, access.CHECK))),
    access.Need("{mr}:*", "the history", Command(("XADD", _STREAM, "NOMKSTREAM", "*", "d", "x"))),
    access.Need("{mr}:*", "the history", Command(("XRANGE", _STREAM, "-", "+", "COUNT", 1))),
    access.Need("{mr}:*", "the history", Command(("XREVRANGE", _STREAM, "+", "-", "COUNT", 1))),
)


@dataclass(slots=True)
class Inspection:
    """Unknown parts are None: the store forbids the question, or it is a cluster."""

    problem: str | None = None  # why nothing else is known
    rtt_s: float | None = None
    version: str | None = None
    eviction: str | None = None
    memory_ratio: float | None = None  # of maxmemory; None also if there is none
    saves: bool | None = None
    save_problem: str | None = None
    read_only: bool = False
    skew_s: float | None = None  # the store's clock before ours
    refusals: list[str] = field(default_factory=list)


async def inspect(
    url: str, *, wait_s: float, router: str, wall_s: Callable[[], float], monotonic_s: Callable[[], float]
) -> Inspection:
    """Raises StoreError for a URL that cannot be one."""
    from router.store.redis import RedisLink

    link = RedisLink(url, Patience(wait_s))
    found = Inspection()
    try:
        found.rtt_s = await _rtt(link, monotonic_s)
        found.eviction = await link.eviction_policy()
        found.refusals = await _refusals(link, router)
        if not url.partition("://")[0].endswith("cluster"):
            found.skew_s = await _skew(link, wall_s)
            await _server(link, found)
        if (why := await _deaf(link)) is not None:
            found.refusals.append(why)
    except LinkError as error:
        found.problem = told(str(error))
    finally:
        await link.close()
    return found


async def _rtt(link: Any, monotonic_s: Callable[[], float]) -> float:
    """The quickest of some answers; the first one opens the connection."""
    took_s = []
    for _ in range(1 + _TRIPS):
        sent_s = monotonic_s()
        await link.run([Command(("GET", VERSION))])
        took_s.append(monotonic_s() - sent_s)
    return min(took_s[1:])


async def _refusals(link: Any, router: str) -> list[str]:
    wanted = [*access.needs(load_scripts(), router), *_MORE]
    replies = await link.run([need.command for need in wanted])
    return list(dict.fromkeys(access.refusals(wanted, replies)))


async def _skew(link: Any, wall_s: Callable[[], float]) -> float | None:
    sent_s = wall_s()
    (reply,) = await link.run([Command(("TIME",))])
    between_s = (sent_s + wall_s()) / 2
    try:
        seconds, micros = reply
        return float(int(seconds) + int(micros) / 1e6 - between_s)
    except (TypeError, ValueError):
        return None


async def _server(link: Any, found: Inspection) -> None:
    sections = ("server", "memory", "persistence", "replication")
    replies = await link.run([*(Command(("INFO", name)) for name in sections), Command(("CONFIG", "GET", "save"))])
    server, memory, saving, others = (reply if isinstance(reply, dict) else {} for reply in replies[:4])
    if server:
        version = server.get("valkey_version") or server.get("redis_version")
        found.version = f"{'Valkey' if 'valkey_version' in server else 'Redis'} {version}"
    if memory.get("maxmemory"):
        found.memory_ratio = memory["used_memory"] / memory["maxmemory"]
    found.read_only = others.get("role") == "slave"
    if saving:
        found.saves = True if saving.get("aof_enabled") else _snapshots(replies[4])
        for name, what in (("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "append-only file")):
            if found.saves and saving.get(name) not in (None, "ok"):
                found.save_problem = f"its last {what} failed"


def _snapshots(reply: Any) -> bool | None:
    """Whether the store saves snapshots by itself; None: it does not say."""
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    if not isinstance(reply, list) or len(reply) < 2:
        return None
    value = reply[1]
    return bool(value.decode() if isinstance(value, bytes) else value)


async def _deaf(link: Any) -> str | None:
    """Why no news can be heard, or None. The refusal of a subscription comes later than the subscription."""
    times, twice = 0, asyncio.Event()

    def heard(_: bytes | None) -> None:
        nonlocal times
        times += 1
        if times == 1:
            spawn(link.run([Command(("PUBLISH", CHANNEL, ""))]), name="news", expected=(LinkError,))
        else:
            twice.set()

    listening = spawn(link.listen(CHANNEL, heard), name="listening to the store", expected=(LinkError,))
    waiting = spawn(twice.wait(), name="news of the store")
    try:
        await asyncio.wait([listening, waiting], timeout=_LISTEN_S, return_when=asyncio.FIRST_COMPLETED)
        if twice.is_set():
            return None
        if listening.done() and isinstance(error := listening.exception(), LinkError):
            return access.why("the news of changed keys", f"channel {CHANNEL}", error)
        return f"no word on the channel {CHANNEL} in {_LISTEN_S:g} s: changed keys are heard of a second late"
    finally:
        await stop(listening, waiting)
