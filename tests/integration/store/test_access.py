"""A user of the store with few rights: those that the runbook names suffice, and what is missing is said."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Reservation
from tests.integration.store.routers import eventually, key_of, router
from tests.integration.store.test_redis import works
from tests.support.redis_server import redis_server
from tests.support.valkey import Valkey

PLAN = Plan("default", requests_per_minute=600, tokens_per_minute=60_000, concurrent=10)
RUNBOOK = Path(__file__).parents[3] / "docs" / "runbook.md"


def rights() -> list[str]:
    """The words of ACL SETUSER in the runbook, after the name."""
    found = re.search(r"ACL SETUSER meridian ([^`]+)```", RUNBOOK.read_text())
    assert found is not None
    return found.group(1).replace(">PASSWORD", ">secret").split()


@pytest.fixture(params=["valkey", "redis"])
def valkey(request: pytest.FixtureRequest) -> Iterator[Valkey]:
    """Older versions of Redis have other words for what is not permitted."""
    with Valkey(unix=False, program=redis_server() if request.param == "redis" else None) as server:
        yield server


def user(valkey: Valkey, words: list[str]) -> str:
    assert valkey.command("ACL", "SETUSER", "meridian", "reset", *words) == b"+OK\r\n"
    return f"redis://meridian:secret@127.0.0.1:{valkey.port}/0"


async def test_the_rights_of_the_runbook_suffice(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    url = user(valkey, rights())
    async with router(url, PLAN) as store:
        await works(store)
        valkey.command("SCRIPT", "FLUSH")
        store.remember("response", "d", "us/a", 60.0)
        store.mark("poison", "d", 60.0)
        await asyncio.sleep(1.5)
        assert store.state == "up"
    log = valkey.command("ACL", "LOG").decode()
    assert log == "*0\r\n", "nothing was refused"
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


#: a right that is missing, what the log must name
MISSING = [
    ("~{mr}:*", "{mr}"),
    ("~mr:*", "mr:*"),
    *(
        (f"+{word}", word)
        for word in [
            "set",
            "get",
            "del",
            "hset",
            "hget",
            "hmget",
            "hdel",
            "hscan",
            "hlen",
            "hgetall",
            "incrby",
            "zadd",
            "zcard",
            "zrem",
        ]
    ),
    *((f"+{word}", word) for word in ["zrange", "zremrangebyrank", "zremrangebyscore", "pexpire", "time", "exists"]),
]


@pytest.mark.parametrize(("right", "named"), MISSING, ids=[right for right, _ in MISSING])
async def test_a_right_that_is_missing_is_said_and_the_store_does_not_flap(
    valkey: Valkey, right: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "router.store")
    url = user(valkey, [word for word in rights() if word != right])
    async with router(url, PLAN) as store:
        for _ in range(12):
            taken = await store.reserve(key_of(PLAN), Amounts(1, 1), "r")
            assert isinstance(taken, Reservation)
            assert taken.source == "share"
            store.settle(taken, Amounts(1, 1))
            assert store.state == "down"
            await asyncio.sleep(0.05)
        (said,) = [r.getMessage() for r in caplog.records if "away" in r.getMessage()]
        assert named in said
        user(valkey, rights())
        await eventually(lambda: store.state == "up")


@pytest.mark.parametrize("right", ["&mr:keys", "+publish", "+subscribe", "+info", "+evalsha"])
async def test_a_right_that_is_only_useful_may_be_missing(valkey: Valkey, right: str) -> None:
    url = user(valkey, [word for word in rights() if word != right])
    async with router(url, PLAN) as store, router(url, PLAN, name="other") as other:
        key, secret = await store.create_key("a")
        await eventually(lambda: other.keys.lookup(secret.encode()) == key)
        assert store.state == other.state == "up"


async def test_a_right_that_is_taken_away_while_it_runs(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    async with router(user(valkey, rights()), PLAN) as store:
        await works(store)
        user(valkey, [word for word in rights() if word != "~mr:*"])

        async def down() -> bool:
            taken = await store.reserve(key_of(PLAN), Amounts(1, 1), "r")
            assert isinstance(taken, Reservation)
            return store.state == "down"

        await eventually(down)
        await asyncio.sleep(2.0)
        assert store.state == "down"
        assert sum("is away" in r.getMessage() for r in caplog.records) == 1
        user(valkey, rights())
        await eventually(lambda: store.state == "up")
