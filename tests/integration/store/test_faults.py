"""A table of what can be wrong with the store: the router starts, goes on alone, says so once, and comes back."""

from __future__ import annotations

import asyncio
import inspect
import logging
import ssl
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis.exceptions

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Reservation
from router.store.courier import Command
from router.store.redis import RedisLink
from router.store.shared import SharedStore
from tests.integration.store.routers import eventually, key_of, router, store_on
from tests.support.resp import FaultyLine
from tests.support.stopwatch import Stopwatch
from tests.support.valkey import Valkey

PLAN = Plan("default", requests_per_minute=6000, tokens_per_minute=600_000, concurrent=100)

#: What stands between the router and its store. The store is "down" under each.
FAULTS: dict[str, str | bytes] = {
    "connections are reset": "reset",
    "reset in the middle of an answer": "reset later",
    "closed at once": "close",
    "silence": "silence",
    "nobody listens": "refuse",
    "an HTTP server": b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
    "TLS is expected": b"\x15\x03\x03\x00\x02\x02\x46",
    "no RESP": b"?what\r\n",
    "a broken length": b"$x\r\n",
    "another type": b"+OK\r\n",
    "null": b"*-1\r\n",
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "read only": b"-READONLY You can't write against a read only replica.\r\n",
    "no permission": b"-NOPERM User default has no permissions to run the 'evalsha' command\r\n",
    "out of memory": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "moved": b"-MOVED 3999 127.0.0.1:1\r\n",
    "ask": b"-ASK 3999 127.0.0.1:1\r\n",
    "try again": b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    "cluster down": b"-CLUSTERDOWN The cluster is down\r\n",
    "cross slot": b"-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    "primary down": b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    "too few replicas": b"-NOREPLICAS Not enough good replicas to write.\r\n",
    "a full disk": b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist\r\n",
    "a script runs": b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL\r\n",
    "unkillable": b"-UNKILLABLE Sorry the script already executed write commands\r\n",
    "no password": b"-NOAUTH Authentication required.\r\n",
    "wrong password": b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    "too many clients": b"-ERR max number of clients reached\r\n",
    "no such command": b"-ERR unknown command 'EVALSHA', with args beginning with: \r\n",
    "a type that is not ours": b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    "a fault of the script": b"-ERR Error running script: user_script:1: oops\r\n",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey(unix=False) as valkey:
        yield valkey


async def served(store: SharedStore) -> Reservation:
    """A request is let in within the deadline, whatever is wrong."""
    taken = store.reserve_now(key_of(PLAN), Amounts(1, 10), "r", time.monotonic())
    if taken is None:
        watch = Stopwatch()
        taken = await store.reserve(key_of(PLAN), Amounts(1, 10), "r")
        assert watch.elapsed_s < 1.0
    assert isinstance(taken, Reservation), taken
    store.settle(taken, Amounts(1, 10))
    return taken


async def works_again(store: SharedStore) -> None:
    await eventually(lambda: store.state == "up")

    async def by_the_store() -> bool:
        taken = store.reserve_now(key_of(PLAN), Amounts(1, 10), "r", time.monotonic()) or await store.reserve(
            key_of(PLAN), Amounts(1, 10), "r"
        )
        assert isinstance(taken, Reservation)
        store.settle(taken, Amounts(1, 10))
        return taken.source in ("store", "allowance")

    await eventually(by_the_store)
    key, secret = await store.create_key("a")
    assert store.keys.lookup(secret.encode()) == key


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_each_fault_while_it_runs(server: Valkey, fault: str | bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with FaultyLine(server.port) as line, router(line.url, PLAN) as store:
        assert store.state == "up"
        await served(store)
        await line.set(fault)

        async def down() -> bool:
            await served(store)
            return store.state == "down"

        await eventually(down)
        for _ in range(10):
            await served(store)
            await asyncio.sleep(0.05)
        assert store.state == "down", "it does not flap"
        await line.set(None)
        await works_again(store)
    said = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert sum("is away" in r.getMessage() for r in said) == 1, [r.getMessage() for r in said]
    assert sum("is back after" in r.getMessage() for r in said) == 1
    assert not [r for r in said if r.exc_info], "no tracebacks: every fault of this table is foreseen"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_each_fault_at_the_start(server: Valkey, fault: str | bytes) -> None:
    async with FaultyLine(server.port) as line:
        await line.set(fault)
        async with router(line.url, PLAN) as store:
            assert store.state == "down"
            assert (await served(store)).source == "share"
            await line.set(None)
            await works_again(store)


def _kinds_of_errors() -> list[BaseException]:
    """Every exception of redis-py, and those that have escaped from it."""
    errors: list[BaseException] = []
    for kind in vars(redis.exceptions).values():
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__ == "redis.exceptions":
            try:
                errors.append(kind("1 127.0.0.1:1"))
            except TypeError:
                errors.append(kind())
    escaped = [OSError(), EOFError(), asyncio.IncompleteReadError(b"", 5), asyncio.LimitOverrunError("x", 1)]
    escaped += [asyncio.InvalidStateError(), TimeoutError(), ssl.SSLError("x"), ssl.SSLCertVerificationError("x")]
    faults = [RuntimeError("x"), AttributeError("x"), KeyError("x"), IndexError(), ValueError("x"), TypeError("x")]
    return [*errors, *escaped, *faults, UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), asyncio.CancelledError()]


class FailingLink(RedisLink):
    """Fails with ``error``, raised or as the reply to every command, while ``wrong``."""

    def __init__(self, url: str, error: BaseException, *, as_reply: bool) -> None:
        super().__init__(url)
        self.error = error
        self.as_reply = as_reply
        self.wrong = True

    async def _pipeline(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        if not self.wrong:
            return await super()._pipeline(commands)
        if self.as_reply:
            return [self.error] * len(commands)
        raise self.error


async def _survives(link: FailingLink) -> None:
    store = store_on(link, PLAN)
    await store.start()
    try:
        assert store.state == "down"
        await served(store)
        link.wrong = False
        await works_again(store)
        link.wrong = True

        async def down() -> bool:
            await served(store)
            return store.state == "down"

        await eventually(down)
        link.wrong = False
        await works_again(store)
    except BaseException as failure:
        failure.add_note(f"{link.error!r}, {'as a reply' if link.as_reply else 'raised'}")
        raise
    finally:
        await store.stop()


@pytest.mark.parametrize("as_reply", [False, True], ids=["raised", "as a reply"])
async def test_every_kind_of_exception_at_the_start_and_later(server: Valkey, as_reply: bool) -> None:
    errors = [e for e in _kinds_of_errors() if isinstance(e, Exception) or not as_reply]
    assert len(errors) > 40
    for at in range(0, len(errors), 12):
        # each in a database of its own: a router that shares with eleven others has nothing to give out on credit when
        # this process is late to read an answer
        urls = [server.url.removesuffix("/0") + f"/{database}" for database in range(12)]
        links = [FailingLink(url, e, as_reply=as_reply) for url, e in zip(urls, errors[at : at + 12], strict=False)]
        await asyncio.gather(*map(_survives, links))


async def test_a_cancellation_of_ours_is_one(server: Valkey) -> None:
    server.pause()
    try:
        link = RedisLink(server.url)
        commands: Sequence[Command] = [Command(("PING",))]
        task = asyncio.create_task(link.run(commands))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await link.close()
    finally:
        server.resume()


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (("SET", "{mr}:version", "many"), True),
        (("SET", "{mr}:keys", "x"), True),
        (("SET", "{mr}:runtime", "x"), False),
        (("SET", "{mr}:marks", "x"), True),
        (("HSET", "{mr}:keys", "key_1", "not json"), False),
        (("HSET", "{mr}:runtime", "\\xff", "\\xff"), False),
    ],
    ids=lambda w: " ".join(w) if isinstance(w, tuple) else "",
)
async def test_what_somebody_else_wrote_at_our_keys_ends_nothing(words: tuple[str, ...], whole: bool) -> None:
    with Valkey() as valkey:
        valkey.command(*words)
        async with router(valkey.url, PLAN) as store:
            await served(store)
            assert (store.state == "down") is whole
            valkey.command("DEL", words[1])
            await works_again(store)
