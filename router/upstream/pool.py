"""Keep-alive connections to one backend. Each backend has its own pool: a dead region cannot hold up another."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from router.core.traits import TRAITS
from router.core.types import BackendSpec
from router.errors import RouterError
from router.upstream.tls import ClientTls
from router.wire.head import AnswerHeads
from router.wire.outbound import Outbound

#: uvicorn (vLLM) closes idle connections after 4.8 s, llama.cpp after 4.9 s: be gone before them.
IDLE_LIMIT_S = 4.0


class ConnectError(RouterError):
    """A backend could not be connected to: connect_timeout or upstream_unreachable."""


class Pool:
    """Connections to one backend: ``take`` a warm one or ``connect`` a new one; idle ones come back of themselves."""

    def __init__(self, spec: BackendSpec, now_s: Callable[[], float]) -> None:
        parts = urlsplit(spec.url)
        self.spec = spec
        self._now_s = now_s
        self._host = parts.hostname or ""
        self._tls = ClientTls() if parts.scheme == "https" else None
        self._sessions: set[Outbound] = set()  # connections whose TLS session is yet to be kept
        self._port = parts.port or (443 if self._tls else 80)
        self._heads = AnswerHeads()
        self._idle: deque[Outbound] = deque()  # the warmest last
        self.open: set[Outbound] = set()
        self.closed = False
        self.region = spec.region.name
        self.sums_usage = TRAITS[spec.engine].sums_usage
        self.head = self._request_head(parts.path.rstrip("/"), parts.netloc)
        #: header lines that tell a client who has answered
        self.stamp = f"x-router-region: {self.region}\r\nx-router-backend: {spec.name}\r\n".encode()

    def __repr__(self) -> str:
        return f"<Pool {self.spec.name} open={len(self.open)} idle={len(self._idle)}>"

    def _request_head(self, prefix: str, netloc: str) -> tuple[bytes, bytes]:
        """What stands before and after the path in every request to this backend."""
        lines = [f" HTTP/1.1\r\nhost: {netloc}\r\n"]
        if self.spec.key_env and (key := os.environ.get(self.spec.key_env)):
            lines.append(f"authorization: Bearer {key}\r\n")
        return f"POST {prefix}".encode(), "".join(lines).encode("latin-1")

    def head_of(self, method: bytes) -> tuple[bytes, bytes]:
        """``head`` for another method than POST."""
        before, after = self.head
        return method + before.removeprefix(b"POST"), after

    def take(self, now_s: float) -> Outbound | None:
        """A warm connection, or None."""
        while self._idle:
            connection = self._idle.pop()
            fresh = now_s - connection.idle_since_s < IDLE_LIMIT_S
            if fresh and connection.usable and not connection.transport.is_closing():
                return connection
            self._drop(connection)
        return None

    async def connect(self, timeout_s: float) -> Outbound:
        """A new connection. Runs in a task. Raises ConnectError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    self._new,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except TimeoutError:
            raise ConnectError("connect_timeout", "did not accept a connection in time") from None
        except OSError:
            raise ConnectError("upstream_unreachable", "could not be reached") from None
        self.open.add(connection)
        if self._tls is not None:
            self._sessions.add(connection)
        return connection

    def _new(self) -> Outbound:
        return Outbound(self._returned, self._lost, self._heads)

    def keep_for_later(self, task: asyncio.Task[Outbound]) -> None:
        """The request that asked for this connection has left; the next one will like it."""
        if not task.cancelled() and task.exception() is None:
            self._returned(task.result())

    def sweep(self) -> None:
        """Close what has been idle too long."""
        oldest_s = self._now_s() - IDLE_LIMIT_S
        while self._idle and self._idle[0].idle_since_s <= oldest_s:
            self._drop(self._idle.popleft())

    def close(self) -> None:
        """No new use; connections in use end with their request."""
        self.closed = True
        while self._idle:
            self._drop(self._idle.pop())

    def _returned(self, connection: Outbound) -> None:
        if self.closed:
            self._drop(connection)
            return
        if self._tls is not None and connection in self._sessions:
            self._sessions.discard(connection)
            self._tls.remember(connection.transport.get_extra_info("ssl_object"))
        connection.idle_since_s = self._now_s()
        self._idle.append(connection)

    def _lost(self, connection: Outbound) -> None:
        self.open.discard(connection)
        self._sessions.discard(connection)
        # It may stand among the idle ones: it is unusable now, and thrown away when its turn comes.

    def _drop(self, connection: Outbound) -> None:
        connection.usable = False
        connection.transport.close()


class Pools:
    """One pool per backend, kept in step with the configuration."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._pools: dict[str, Pool] = {}

    def apply(self, specs: tuple[BackendSpec, ...]) -> None:
        wanted = {spec.name: spec for spec in specs}
        for name, pool in list(self._pools.items()):
            if wanted.get(name) != pool.spec:
                pool.close()
                del self._pools[name]
        for name, spec in wanted.items():
            if name not in self._pools:
                self._pools[name] = Pool(spec, self._now_s)

    def __getitem__(self, backend: str) -> Pool:
        return self._pools[backend]

    def replace(self, backend: str, pool: Pool) -> None:
        """From now on attempts go through ``pool``; those under way end as they are."""
        self._pools[backend].close()
        self._pools[backend] = pool

    def get(self, backend: str) -> Pool | None:
        return self._pools.get(backend)

    def sweep(self) -> None:
        for pool in self._pools.values():
            pool.sweep()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
