"""Faults on purpose, to see that the rest holds: attempts at a backend are refused, delayed or cut for a while.

A fault replaces the backend's pool by one that misbehaves. Without a fault nothing of this is on the path of a request.
Probes and scrapes are not touched: as with a dead engine behind a healthy ``/health``, only traffic tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from router.core.sse import StreamKind, StreamWatch
from router.core.types import BackendSpec
from router.upstream.pool import ConnectError, Network, Pool, Pools
from router.wire.head import Headers
from router.wire.outbound import Outbound, Piece, Sink

#: How a fault shows.
KINDS = ("refuse", "delay", "cut")


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """``refuse``: no connection; ``delay``: one after ``delay_s``; ``cut``: it breaks after ``after_tokens`` tokens, or
    at the first byte of an answer that is no stream."""

    kind: str
    delay_s: float = 0.0
    after_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Running:
    fault: InjectedFault
    pool: FaultyPool
    end_s: float
    timer: asyncio.TimerHandle


class Chaos:
    """The faults of this process, at most one per backend. Each ends by itself."""

    def __init__(self, pools: Pools, now_s: Callable[[], float]) -> None:
        self._pools = pools
        self._now_s = now_s
        self._running: dict[str, _Running] = {}

    def start(self, backend: str, fault: InjectedFault, for_s: float) -> None:
        """In place of the one that runs there, if one does. Raises KeyError for a backend there is none of."""
        self.stop(backend)
        pool = FaultyPool(self._pools[backend].spec, self._pools.network, fault)
        timer = asyncio.get_running_loop().call_later(for_s, self.stop, backend)
        self._running[backend] = _Running(fault, pool, self._now_s() + for_s, timer)
        self._pools.replace(backend, pool)

    def stop(self, backend: str) -> bool:
        """Whether there was one."""
        running = self._running.pop(backend, None)
        if running is None:
            return False
        running.timer.cancel()
        if self._pools.get(backend) is running.pool:  # a reload may have been faster
            self._pools.replace(backend, Pool(running.pool.spec, self._pools.network))
        return True

    def stop_all(self) -> None:
        for backend in list(self._running):
            self.stop(backend)

    def running(self) -> dict[str, tuple[InjectedFault, float]]:
        """By backend: the fault, and for how many seconds it goes on."""
        now_s = self._now_s()
        return {
            name: (r.fault, max(0.0, r.end_s - now_s))
            for name, r in self._running.items()
            if self._pools.get(name) is r.pool
        }


class FaultyPool(Pool):
    """Every attempt connects anew, and meets the fault."""

    def __init__(self, spec: BackendSpec, network: Network, fault: InjectedFault) -> None:
        super().__init__(spec, network)
        self._fault = fault

    def take(self, now_s: float) -> Outbound | None:
        return None

    async def connect(self, timeout_s: float) -> Outbound:
        if self._fault.kind == "refuse":
            raise ConnectError("upstream_unreachable", "could not be reached (chaos)")
        await asyncio.sleep(self._fault.delay_s)
        return await super().connect(timeout_s)

    def _new(self) -> Outbound:
        if self._fault.kind == "cut":
            return _CutOutbound(self._returned, self._lost, self._heads).after(self._fault.after_tokens)
        return super()._new()


class _CutOutbound(Outbound):
    __slots__ = ("_after_tokens",)

    def after(self, tokens: int) -> _CutOutbound:
        self._after_tokens = tokens
        return self

    def send(self, pieces: tuple[Piece, ...], sink: Sink) -> None:
        super().send(pieces, _Cut(self, sink, self._after_tokens))


class _Cut:
    """Stands between a connection and who reads its answer (a Sink), and breaks it off."""

    def __init__(self, outbound: Outbound, sink: Sink, after_tokens: int) -> None:
        self._outbound = outbound
        self._sink = sink
        self._watch = StreamWatch(StreamKind.CHAT)
        self._after_tokens = after_tokens

    def on_head(self, status: int, headers: Headers) -> None:
        self._sink.on_head(status, headers)

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        if self._after_tokens:
            self._sink.on_body(data, framed)
            self._watch.feed(data)
        if self._watch.events >= self._after_tokens and self._outbound.sink is self:
            self._outbound.abort()
            self._sink.on_fail("lost", answered=True)

    def on_end(self, *, framed: bool) -> None:
        self._sink.on_end(framed=framed)

    def on_fail(self, reason: str, *, answered: bool) -> None:
        self._sink.on_fail(reason, answered=answered)
