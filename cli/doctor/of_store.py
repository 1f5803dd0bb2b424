"""The store: whether it answers, how soon, what it forgets, what it forbids, and its clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from cli import units
from cli.doctor.symptoms import FAIL, WARN, Symptom, clock, good
from router.config import Config
from router.config.redis_url import without_password
from router.store.base import StoreError
from router.store.embedded import binary
from router.store.heartbeat import KEEPS_ALL
from router.store.inspection import Inspection, inspect

_AREA = "store"
_FULL = 0.9
#: Farther than this every request that must ask the store notices.
_FAR_S = 0.05


def look(config: Config) -> list[Symptom]:
    redis = config.store.redis
    if redis is None:
        return [_memory(config)]
    if redis == "embedded":
        return [_embedded()]
    where = without_password(redis)
    try:
        found = asyncio.run(
            inspect(
                redis,
                wait_s=config.store.wait,
                router=config.router.name,
                wall_s=time.time,
                monotonic_s=time.monotonic,
            )
        )
    except StoreError as error:
        return [Symptom(_AREA, where, FAIL, str(error), "Mend [store] redis in the file.")]
    if found.problem is not None:
        advice = (
            'Until it is back routers share what they hold ([store] on_down); see the runbook, "The store is away".'
        )
        return [Symptom(_AREA, where, FAIL, found.problem, advice)]
    return [*_lines(where, found)]


def _memory(config: Config) -> Symptom:
    text = "in this process's memory: keys and quotas end with the router, and no other router knows them"
    if config.auth.mode == "keys":
        return Symptom(_AREA, "memory", WARN, text, "Name a Redis or Valkey in [store] redis.")
    return good(_AREA, "memory", text)


def _embedded() -> Symptom:
    try:
        return good(_AREA, "embedded", f"a private Valkey that starts with the router: {binary()}")
    except StoreError as error:
        return Symptom(_AREA, "embedded", FAIL, str(error), "Install it, or name a Redis or Valkey.")


def _lines(where: str, found: Inspection) -> Iterator[Symptom]:
    version = f"{found.version} answers" if found.version else "answers"
    text = f"{version} in {units.seconds(found.rtt_s)}"
    if found.rtt_s is not None and found.rtt_s > _FAR_S:
        advice = "A store in the same region; [store] wait says how long a request waits for it."
        yield Symptom(_AREA, where, WARN, f"{text}, which is far", advice)
    else:
        yield good(_AREA, where, text)
    if found.read_only:
        yield Symptom(_AREA, "role", FAIL, "it is a read-only replica", "Name its primary, or the sentinels.")
    yield _eviction(found)
    if found.memory_ratio is not None and found.memory_ratio > _FULL:
        text = f"{units.ratio(found.memory_ratio)} of maxmemory is used"
        yield Symptom(_AREA, "memory", WARN, text, "Raise maxmemory, or move what others keep there.")
    yield _persistence(found)
    for refusal in found.refusals:
        yield Symptom(_AREA, "rights", FAIL, refusal, "The runbook has the ACL SETUSER that suffices.")
    if not found.refusals:
        yield good(_AREA, "rights", "all commands that routers use are permitted")
    if found.skew_s is not None:
        advice = "Set the clocks (NTP): the expiry of keys and JWTs is read on each machine's own clock."
        yield clock("store", found.skew_s, warn_s=1.0, fail_s=30.0, advice=advice)


def _eviction(found: Inspection) -> Symptom:
    name = "maxmemory-policy"
    if found.eviction is None:
        return Symptom(_AREA, name, WARN, "it does not say", "Permit INFO, or see yourself that it is noeviction.")
    if found.eviction == KEEPS_ALL:
        return good(_AREA, name, found.eviction)
    loses = "quotas" if found.eviction.startswith("volatile") else "API keys, drains and quotas"
    text = f"{found.eviction}: short of memory, the store deletes {loses}"
    return Symptom(_AREA, name, FAIL, text, f"CONFIG SET maxmemory-policy {KEEPS_ALL}")


def _persistence(found: Inspection) -> Symptom:
    name = "persistence"
    if found.save_problem is not None:
        return Symptom(_AREA, name, FAIL, found.save_problem, "Look at its disk and its log.")
    if found.saves is None:
        return good(_AREA, name, "it does not say whether it saves")
    if found.saves:
        return good(_AREA, name, "it saves what it holds")
    text = "it saves nothing: keys and budgets are lost when it restarts, unless a router that runs puts them back"
    return Symptom(_AREA, name, WARN, text, "appendonly yes, or a `save` line.")
