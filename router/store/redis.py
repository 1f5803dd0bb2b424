"""Connections and pipelines with redis-py (for a cluster see ``cluster``). Its exceptions become LinkError here.

Nothing is tried twice and everything ends by the measured patience, or in CONNECT_S where it has to connect first: with
redis-py's own settings one call to a frozen server takes a minute. How long a caller waits is the courier's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from router.config.redis_url import RedisUrl, parse_redis_url
from router.deadline import within
from router.store.base import StoreError
from router.store.cluster import ClusterNodes
from router.store.courier import Command, LinkError, NodeAwayError
from router.store.patience import CONNECT_S, Patience
from router.store.pipe import Parsers, Pipes

_CONNECTIONS = 32
#: Answers that say "the server cannot work now", whatever was asked.
_CANNOT_WORK = (BusyLoadingError, ClusterDownError, OutOfMemoryError, ReadOnlyError)
_CANNOT_WORK_WORDS = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "BUSY", "NOAUTH", "WRONGPASS", "UNKILLABLE")


#: Exceptions by which redis-py says that the store is away or cannot work. Others are faults in redis-py or here.
#: uvloop raises RuntimeError when a connection that was reset is written to.
_FORESEEN = (RedisError, RedisClusterException, OSError, TimeoutError, EOFError, RuntimeError)

_FORBIDS_DIGESTS = re.compile("(unknown command|no permissions to run the) '?evalsha", re.IGNORECASE)

_log = logging.getLogger("router.store")


class RedisLink:
    """A Link to the server, sentinels or cluster of ``url``."""

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        try:
            self._url = parse_redis_url(url)
        except ValueError as error:
            raise StoreError(f"[store] redis: {error}") from None
        self.patience = patience or Patience()
        self._opened: _Opened | None = None
        self._servers: ClusterNodes | Pipes | None = None
        self._closed = False
        self._by_text = False  # the server forbids EVALSHA
        self._turn = 0  # whose turn it is among the nodes of a cluster to be listened to
        self._said: set[type[BaseException]] = set()

    def __repr__(self) -> str:
        return f"<RedisLink {self._url.form}>"

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        try:
            async with within(self._patience_s()):
                replies = await self._pipeline([_by_text(c) if self._by_text else c.words for c in commands])
                unknown = [i for i, c in enumerate(commands) if c.script is not None and self._unknown(replies[i])]
                if unknown:
                    again = await self._pipeline([_by_text(commands[i]) for i in unknown])
                    for i, reply in zip(unknown, again, strict=True):
                        replies[i] = reply
        except BaseException as error:
            raise self._failure(error) from None
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                self._judge(reply)
            elif command.script is not None and not isinstance(reply, list):
                raise LinkError("something answers that does not know our scripts")
        return replies

    def _unknown(self, reply: object) -> bool:
        """The server does not have the script, or does not take digests of scripts at all."""
        if isinstance(reply, ResponseError) and not self._by_text and _FORBIDS_DIGESTS.search(str(reply)):
            self._by_text = True
            _log.warning("the store forbids EVALSHA: scripts are sent whole, with EVAL")
            return True
        return isinstance(reply, NoScriptError) or (self._by_text and _FORBIDS_DIGESTS.search(str(reply)) is not None)

    async def drop(self) -> None:
        opened, self._opened = self._opened, None
        servers, self._servers = self._servers, None
        self._by_text = False
        if servers is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CONNECT_S):
                    await servers.close()
        if opened is not None:
            await opened.close()

    async def eviction_policy(self) -> str | None:
        try:
            async with within(self._patience_s()):
                return await self._policy()
        except BaseException as error:
            failure = self._failure(error)
            if isinstance(failure, LinkError):
                return None  # the command is not permitted, or the store is away again
            raise failure from None

    async def _policy(self) -> str | None:
        client = self._client()
        if isinstance(client, RedisCluster):
            answers: list[Any] = list((await client.info("memory", target_nodes=RedisCluster.PRIMARIES)).values())
        else:
            answers = await self._pipeline([("INFO", "memory")])
        policies = [policy for answer in answers if (policy := answer.get("maxmemory_policy"))]
        return next((p for p in policies if p != "noeviction"), policies[0] if policies else None)

    async def listen(self, channel: str, heard: Callable[[bytes | None], None]) -> None:
        url = self._url
        if url.form == "cluster":  # every node tells what was published at any
            url = url._replace(form="server", hosts=(url.hosts[self._turn % len(url.hosts)],))
            self._turn += 1
        opened = _open(url)
        try:
            pubsub = cast(Redis, opened.client).pubsub(ignore_subscribe_messages=True)
            async with pubsub:
                await pubsub.subscribe(channel)
                connection: Any = pubsub.connection
                while True:  # redis-py's own way takes three times as long for each message
                    kind, _, data = await connection.read_response(timeout=math.inf)
                    heard(data if kind == b"message" else None)
        except BaseException as error:
            raise self._failure(error) from None
        finally:
            await opened.close()

    async def close(self) -> None:
        """Close for good: later calls raise LinkError, and no connection outlives the event loop."""
        self._closed = True
        await self.drop()

    def _patience_s(self) -> float:
        """A call that has to connect first takes several round trips more."""
        return self.patience.give_up_s if self._servers is not None and self._servers.open else CONNECT_S

    async def _pipeline(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        client = self._client()
        if self._servers is None:
            if isinstance(client, RedisCluster):
                self._servers = ClusterNodes(client, self.patience)
            else:
                make, parsers = client.connection_pool.make_connection, cast(Parsers, client.response_callbacks)
                self._servers = Pipes(make, parsers, self.patience.answered, name="store")
        return await self._servers.ask(commands)

    def _client(self) -> Redis | RedisCluster:
        if self._closed:
            raise LinkError("the link is closed")
        if self._opened is None:
            self._opened = _open(self._url)
        return self._opened.client

    def _failure(self, error: BaseException) -> BaseException:
        """The exception to raise for one of redis-py: LinkError, except when our own task is being cancelled."""
        if isinstance(error, LinkError):
            return error
        if not isinstance(error, Exception):
            task = asyncio.current_task()
            ends = not isinstance(error, asyncio.CancelledError) or task is None or task.cancelling()
            return error if ends else LinkError("the call was cancelled by the client library")
        if not isinstance(error, _FORESEEN) and type(error) not in self._said:
            self._said.add(type(error))
            _log.error("redis-py failed with an unexpected error", exc_info=error)
        return LinkError(_why(error))

    def _judge(self, reply: Exception) -> None:
        """Raise LinkError if a reply means that the server cannot work."""
        if isinstance(reply, NodeAwayError):
            return
        if isinstance(reply, _CANNOT_WORK) or not isinstance(reply, ResponseError):
            raise LinkError(_why(reply))
        if str(reply).startswith(_CANNOT_WORK_WORDS):
            raise LinkError(_why(reply))


def _by_text(command: Command) -> tuple[Any, ...]:
    return command.words if command.script is None else ("EVAL", command.script.text, *command.words[2:])


def _why(error: BaseException) -> str:
    """The error in one line, without addresses that may hold a password."""
    text = str(error).partition("\n")[0].partition("<")[0].rstrip(" :")[:160]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Opened(NamedTuple):
    """A client, and the sentinels that tell it where the server is."""

    client: Redis | RedisCluster
    guides: tuple[Redis, ...] = ()

    async def close(self) -> None:
        for client in (self.client, *self.guides):
            with contextlib.suppress(Exception):  # it is thrown away, whatever it says
                async with asyncio.timeout(CONNECT_S):
                    await client.aclose()


def _open(url: RedisUrl) -> _Opened:
    common: dict[str, Any] = {
        "socket_timeout": None,  # silence is normal on a connection; who asks on it has a deadline
        "socket_connect_timeout": CONNECT_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    options = url.options | common
    if url.form == "socket":
        return _Opened(Redis(unix_socket_path=url.path, max_connections=_CONNECTIONS, **options))
    if url.form == "server":
        ((host, port),) = url.hosts
        return _Opened(Redis(host=host, port=port, max_connections=_CONNECTIONS, **options))
    if url.form == "cluster":
        nodes = [ClusterNode(host, port) for host, port in url.hosts]
        return _Opened(
            RedisCluster(startup_nodes=nodes, require_full_coverage=False, max_connections=_CONNECTIONS, **options)
        )
    sentinel: Any = Sentinel(url.hosts, sentinel_kwargs=url.sentinel_options | common, **options)  # type: ignore[no-untyped-call]
    return _Opened(sentinel.master_for(url.primary), tuple(sentinel.sentinels))
