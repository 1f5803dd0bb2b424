"""Keep-alive connections to one backend. Each backend has its own pool: a dead region cannot hold up another.

A host name may have several addresses, and they change. Requests go to the addresses in turn; each has a shelf for its
idle connections. Connections to an address that the name no longer has are not used again, and none is used for longer
than ``Network.connection_age_s``: the machines behind one address may change too.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from router.core.outcomes import Outcome
from router.core.traits import IDLE_LIMIT_S, TRAITS
from router.core.types import BackendSpec
from router.deadline import within
from router.errors import RouterError
from router.tasks import spawn
from router.wire.dial import dial
from router.wire.head import AnswerHeads
from router.wire.names import Address, Name, Names, UnknownNameError
from router.wire.outbound import Outbound
from router.wire.sockets import SHORTAGE
from router.wire.tls import tls_of
from router.wire.trouble import Kind, trouble_of

CONNECTION_AGE_S = 300.0
#: Ages are spread by this share, so that connections made together do not end together.
_AGE_SPREAD = 0.2
#: When descriptors run out, idle connections are closed; after this long their descriptors are free.
_RELIEF_S = 0.02
#: Who has nobody else to ask waits for a connection this many times as long. The kernel asks again after 1, 2, 3 s or
#: after 1 and 3 s when the first packet was lost, as it is by a listener whose backlog is full.
LAST_HOPE_TIMES = 4
#: Pools close what has been idle too long, and follow their names, this often.
_SWEEP_S = 0.25


class ConnectError(RouterError):
    """A backend could not be connected to: connect_timeout or upstream_unreachable; or this router is out of
    descriptors or of another resource of its own: router_exhausted."""

    unsent = False

    @classmethod
    def of(cls, error: BaseException) -> ConnectError:
        trouble = trouble_of(error)
        if trouble.kind is Kind.OWN:
            return cls("router_exhausted", f"could not be connected to: {trouble.text}", retry_after_s=1.0)
        if trouble.kind is Kind.TIMEOUT:
            return cls("connect_timeout", "did not accept a connection in time")
        return cls("upstream_unreachable", f"could not be reached: {trouble.text}")

    @property
    def outcome(self) -> Outcome:
        """A shortage in this router says nothing about the backend."""
        return Outcome.OWN_SHORTAGE if self.code == "router_exhausted" else Outcome.UNREACHABLE


class NoAddressError(ConnectError):
    """The backend's host name has no address."""

    unsent = True


@dataclass(slots=True)
class Network:
    """Shared by all pools of a process. A reload may change the ages."""

    now_s: Callable[[], float]
    names: Names
    connection_age_s: float = CONNECTION_AGE_S
    #: closes connections that this process can do without, when it is out of descriptors
    relieve: Callable[[], None] = lambda: None

    @classmethod
    def new(cls, now_s: Callable[[], float]) -> Network:
        return cls(now_s, Names(now_s))


@dataclass(slots=True, eq=False)
class Shelf:
    """The connections to one address. ``known``: the backend's name still has it, and the backend is still there."""

    address: Address | None
    idle: deque[Outbound] = field(default_factory=deque)  # the warmest last
    connections: int = 0  # idle, in use, and being made
    known: bool = True


class Pool:
    """Connections to one backend: ``take`` a warm one or ``connect`` a new one; idle ones come back on their own."""

    #: the faults on purpose that attempts may meet, if there are any
    faults: Meeting | None = None
    #: the one that whoever uses this pool meets
    fault: str | None = None

    def __init__(self, spec: BackendSpec, network: Network) -> None:
        """Raises ConfigError for TLS files that cannot be used."""
        parts = urlsplit(spec.url)
        self.spec = spec
        self._network = network
        self._now_s = network.now_s
        self._name: Name = network.names.of(parts.hostname or "")
        self._tls = tls_of(spec)
        self._sessions: set[Outbound] = set()  # connections whose TLS session is yet to be kept
        self._port = parts.port or (443 if self._tls else 80)
        self._heads = AnswerHeads()
        self._shelves = [Shelf(None)]  # at least one, even before an address is known
        self._turn = 0
        self._version = -1  # of the name, when the shelves were set up
        self.open: set[Outbound] = set()
        #: requests that wait for a new connection, in order: one that comes back is theirs
        self._wanted: dict[asyncio.Future[Outbound], None] = {}
        self.closed = False
        self.region = spec.region.name
        self.sums_usage = TRAITS[spec.engine].sums_usage
        #: how whole answers are put together from its streams, if they can be
        self.assembled = TRAITS[spec.engine].assembled
        #: whether the engine takes ``stream_options``; None until it has been seen
        self.takes_usage_option = TRAITS[spec.engine].takes_usage_option
        self.head = self._request_head(parts.path.rstrip("/"), parts.netloc)
        #: header lines that tell a client which backend has answered
        self.stamp = f"x-router-region: {self.region}\r\nx-router-backend: {spec.name}\r\n".encode()

    def __repr__(self) -> str:
        return f"<Pool {self.spec.name} open={len(self.open)} idle={sum(len(s.idle) for s in self._shelves)}>"

    def _request_head(self, prefix: str, netloc: str) -> tuple[bytes, bytes]:
        """The text before and after the path in every request to this backend."""
        lines = [f" HTTP/1.1\r\nhost: {netloc}\r\n"]
        if self.spec.key_env and (key := os.environ.get(self.spec.key_env)):
            lines.append(f"authorization: Bearer {key}\r\n")
        return f"POST {prefix}".encode(), "".join(lines).encode("latin-1")

    def head_of(self, method: bytes) -> tuple[bytes, bytes]:
        """``head`` for another method than POST."""
        before, after = self.head
        return method + before.removeprefix(b"POST"), after

    def take(self, now_s: float) -> Outbound | None:
        """A warm connection to the address whose turn it is, or None."""
        shelves = self._shelves
        if len(shelves) > 1:
            self._turn = (self._turn + 1) % len(shelves)
            idle = shelves[self._turn].idle
        else:
            idle = shelves[0].idle
        while idle:
            connection = idle.pop()
            fresh = now_s - connection.idle_since_s < IDLE_LIMIT_S
            if fresh and connection.usable and not connection.transport.is_closing():
                return connection
            self._drop(connection)
        return None

    def order(self, timeout_s: float, last_hope: Callable[[], bool] = lambda: False) -> asyncio.Future[Outbound]:
        """What ``connect`` will return or raise, or a connection that comes back from another request before that."""
        wanted: asyncio.Future[Outbound] = asyncio.get_running_loop().create_future()
        self._wanted[wanted] = None
        self.order_new(timeout_s, last_hope).add_done_callback(partial(self._made, wanted))
        return wanted

    def order_new(self, timeout_s: float, last_hope: Callable[[], bool] = lambda: False) -> asyncio.Task[Outbound]:
        """What ``connect`` will return or raise."""
        connecting = self.connect(timeout_s, last_hope)
        return spawn(connecting, name=f"connect {self.spec.name}", expected=(ConnectError,))

    def _made(self, wanted: asyncio.Future[Outbound], task: asyncio.Task[Outbound]) -> None:
        self._wanted.pop(wanted, None)
        if wanted.done():
            self.keep_for_later(task)
        elif task.cancelled():
            wanted.cancel()
        elif (error := task.exception()) is not None:
            wanted.set_exception(error)
        else:
            wanted.set_result(task.result())

    async def connect(self, timeout_s: float, last_hope: Callable[[], bool] = lambda: False) -> Outbound:
        """A new connection, to the address that has the fewest. Runs in a task. Raises ConnectError.

        ``last_hope`` is asked when it is not there in time: whether to wait all the same, up to LAST_HOPE_TIMES as
        long.
        """
        times = iter(range(LAST_HOPE_TIMES - 1))
        try:
            async with within(timeout_s, fairness=1.0, again=lambda: last_hope() and next(times, None) is not None):
                try:
                    return await self._connect()
                except OSError as error:
                    if error.errno not in SHORTAGE:
                        raise
                self._network.relieve()
                await asyncio.sleep(_RELIEF_S)
                return await self._connect()
        except UnknownNameError:
            raise NoAddressError("upstream_unreachable", "has a host name that cannot be resolved") from None
        except OSError as error:
            raise ConnectError.of(error) from None

    async def _connect(self) -> Outbound:
        await self._name.resolve()
        self._arrange()
        shelf = min(self._shelves, key=lambda s: s.connections)
        shelf.connections += 1
        try:
            sock, address = await dial(self._name, self._port, shelf.address)
            if address != shelf.address and (other := self._shelf_of(address)) is not None:
                shelf.connections -= 1
                shelf = other
                shelf.connections += 1
            connection = self._new()
            try:
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    sock=sock,
                    ssl=self._tls,
                    server_hostname=(self.spec.tls_server_name or self._name.host) if self._tls else None,
                )
            except BaseException:
                connection.disown()
                sock.close()
                raise
        except BaseException:
            shelf.connections -= 1
            raise
        self.admit(connection, shelf)
        return connection

    def admit(self, connection: Outbound, shelf: Shelf | None = None) -> None:
        """Take a new connection into the pool. Its ``shelf`` has counted it already."""
        if shelf is None:
            shelf = self._shelves[0]
            shelf.connections += 1
        connection.shelf = shelf
        age_s = self._network.connection_age_s * (1 - _AGE_SPREAD * random.random())
        connection.until_s = self._now_s() + age_s
        self.open.add(connection)
        if self._tls is not None:
            self._sessions.add(connection)
        if not connection.usable:
            self._lost(connection)  # in between

    def _shelf_of(self, address: Address) -> Shelf | None:
        return next((s for s in self._shelves if s.address == address), None)

    def _arrange(self) -> None:
        """Make a shelf for every address that connections are spread over."""
        if self._version == self._name.version:
            return
        self._version = self._name.version
        old = {s.address: s for s in self._shelves}
        usual = self._name.usual or self._name.addresses
        if not usual:
            return
        self._shelves = [old[a] if a in old else Shelf(a, known=not self.closed) for a in usual]
        for shelf in old.values():
            if shelf in self._shelves:
                continue
            shelf.known = False
            while shelf.idle:
                self._drop(shelf.idle.pop())

    def _new(self) -> Outbound:
        return Outbound(self._returned, self._lost, self._heads)

    def keep_for_later(self, task: asyncio.Future[Outbound]) -> None:
        """The request that asked for this connection has left, or has got another one; keep it for the next one."""
        if not task.cancelled() and task.exception() is None:
            self._returned(task.result())

    def sweep(self) -> None:
        """Close connections that were idle too long, and follow changes of the name's addresses."""
        self._name.sweep()
        self._arrange()
        oldest_s = self._now_s() - IDLE_LIMIT_S
        for shelf in self._shelves:
            idle = shelf.idle
            while idle and idle[0].idle_since_s <= oldest_s:
                self._drop(idle.popleft())

    def renew_tls(self) -> None:
        """Read the TLS files again, for new connections. On ConfigError the earlier ones stay in use."""
        if self._tls is not None:
            self._tls = tls_of(self.spec)

    def close(self) -> None:
        """Close idle connections now, and each connection in use when its request ends."""
        self.closed = True
        for shelf in self._shelves:
            shelf.known = False
        self.drop_idle()

    def drop_idle(self) -> None:
        for shelf in self._shelves:
            while shelf.idle:
                self._drop(shelf.idle.pop())

    def _returned(self, connection: Outbound) -> None:
        now_s = self._now_s()
        shelf = connection.shelf
        if now_s >= connection.until_s or not shelf.known:
            self._drop(connection)
            return
        if self._tls is not None and connection in self._sessions:
            self._sessions.discard(connection)
            self._tls.remember(connection.transport.get_extra_info("ssl_object"))
        connection.idle_since_s = now_s
        while self._wanted:
            wanted = next(iter(self._wanted))
            del self._wanted[wanted]
            if not wanted.done():
                wanted.set_result(connection)
                return
        shelf.idle.append(connection)

    def _lost(self, connection: Outbound) -> None:
        if connection in self.open:
            self.open.discard(connection)
            connection.shelf.connections -= 1
        self._sessions.discard(connection)
        # It may still stand among the idle ones: ``take`` drops it when its turn comes.

    def _drop(self, connection: Outbound) -> None:
        connection.usable = False
        connection.transport.close()


class Meeting(Protocol):
    """The faults on purpose that attempts at a backend may meet: chaos.py."""

    def pool_for(self, key: str | None) -> Pool: ...


class Pools:
    """One pool per backend, kept in step with the configuration."""

    def __init__(self, network: Network) -> None:
        self.network = network
        network.relieve = self.drop_idle
        self._pools: dict[str, Pool] = {}
        self._next_sweep_s = 0.0

    def apply(self, specs: tuple[BackendSpec, ...]) -> None:
        """Raises ConfigError for TLS files that cannot be used; then nothing has changed."""
        wanted = {spec.name: spec for spec in specs}
        kept = {name: pool for name, pool in self._pools.items() if wanted.get(name) == pool.spec}
        new = {name: Pool(spec, self.network) for name, spec in wanted.items() if name not in kept}
        for name, pool in self._pools.items():
            if name not in kept:
                pool.close()
        self._pools = kept | new

    def renew_tls(self) -> None:
        """Read the TLS files of all backends again. Raises ConfigError."""
        for pool in self._pools.values():
            pool.renew_tls()

    def __getitem__(self, backend: str) -> Pool:
        return self._pools[backend]

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.values())

    def get(self, backend: str) -> Pool | None:
        return self._pools.get(backend)

    def sweep(self) -> None:
        """Call it as often as you like."""
        now_s = self.network.now_s()
        if now_s >= self._next_sweep_s:
            self._next_sweep_s = now_s + _SWEEP_S
            for pool in self._pools.values():
                pool.sweep()

    def drop_idle(self) -> None:
        """Close every idle connection."""
        for pool in self._pools.values():
            pool.drop_idle()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
