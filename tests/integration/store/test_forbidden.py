"""Managed services that forbid or rename commands, run out of memory, or are replicas: each is said in its own words."""

from __future__ import annotations

import asyncio

import pytest

from router.config import Plan
from tests.integration.store.routers import eventually, router
from tests.integration.store.test_redis import works
from tests.support.ports import free_port
from tests.support.valkey import Valkey

PLAN = Plan("default", requests_per_minute=600, tokens_per_minute=60_000, concurrent=10)


def renamed(*words: str) -> tuple[str, ...]:
    return tuple(part for word in words for part in ("--rename-command", word, ""))


async def test_without_evalsha_and_script_the_scripts_are_sent_whole(caplog: pytest.LogCaptureFixture) -> None:
    with Valkey(args=renamed("EVALSHA", "SCRIPT")) as valkey:
        async with router(valkey.url, PLAN) as store:
            await works(store)
            await asyncio.sleep(1.2)
            assert store.state == "up"
    assert sum("forbids EVALSHA" in r.getMessage() for r in caplog.records) == 1


@pytest.mark.parametrize("words", [("INFO",), ("PUBLISH", "SUBSCRIBE"), ("CONFIG", "CLIENT", "KEYS", "FLUSHALL")])
async def test_commands_that_are_only_useful_may_be_missing(words: tuple[str, ...]) -> None:
    with Valkey(args=renamed(*words)) as valkey:
        async with router(valkey.url, PLAN) as store:
            await works(store)


@pytest.mark.parametrize("words", [("EVALSHA", "EVAL"), ("HSET",), ("ZADD",), ("HSCAN",)])
async def test_what_is_needed_and_forbidden_is_named(words: tuple[str, ...]) -> None:
    with Valkey(args=renamed(*words)) as valkey:
        async with router(valkey.url, PLAN) as store:
            assert store.state == "down"
            assert store.trouble == "forbidden"
            assert store.notice is not None
            assert words[-1].lower() in store.notice.lower() or "script" in store.notice


async def test_out_of_memory_and_read_only_are_told_apart_from_absence() -> None:
    with Valkey(unix=False) as valkey, Valkey(unix=False, port=free_port()) as other:
        async with router(valkey.url, PLAN) as store:
            assert (store.state, store.trouble, store.notice) == ("up", None, None)
            valkey.command("CONFIG", "SET", "maxmemory", "1")
            await eventually(lambda: store.trouble == "out_of_memory")
            assert "raise maxmemory" in (store.notice or "")
            valkey.command("CONFIG", "SET", "maxmemory", "0")
            await eventually(lambda: store.trouble is None)
            valkey.command("REPLICAOF", "127.0.0.1", str(other.port))
            await eventually(lambda: store.trouble == "read_only")
            assert "replica" in (store.notice or "")
            valkey.command("REPLICAOF", "NO", "ONE")
            await eventually(lambda: store.state == "up")
            valkey.kill()
            await eventually(lambda: store.trouble == "absent")
            assert "does not answer" in (store.notice or "")
