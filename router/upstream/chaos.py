"""Faults on purpose, to see that the rest holds: which are in force, and which attempt meets which.

A pool whose backend has faults says so to the attempts (``Pool.faults``), and each attempt draws the pool that it goes
through: the plain one, or one that misbehaves (faulty.py). Without a fault nothing of this is on the path of a request.
Probes are not touched: as with a dead engine behind a healthy ``/health``, only traffic tells.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from router.core.types import Rng
from router.upstream.faulty import FaultyPool
from router.upstream.pool import Pool, Pools

#: fault -> (its own parameter or none, what attempts that meet it do)
KINDS: Mapping[str, tuple[str | None, str]] = {
    "refuse": (None, "are refused"),
    "blackhole": (None, "get no connection and no word of it, until their time is up"),
    "delay": ("delay_s", "begin {:g} s later"),
    "slow": ("factor", "take {:g} times as long"),
    "stall": ("after_tokens", "fall silent after {:g} tokens"),
    "cut": ("after_tokens", "break after {:g} tokens"),
    "status": ("status", "are answered with status {:g}, and the backend does not hear of them"),
    "stale_metrics": (None, ""),
}
#: The fault that is met by no attempt.
STALE = "stale_metrics"


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """``target``: a region or a backend; None: all. ``key``: the id of the only key whose requests meet it. ``share``
    of the attempts that could meet it do. ``value``: of the parameter that its kind has."""

    kind: str
    target: str | None
    value: float = 0.0
    key: str | None = None
    share: float = 1.0

    @property
    def name(self) -> str:
        """Two faults of one name never go on together: the later one is in force."""
        return ":".join((self.kind, self.target or "*", *((self.key,) if self.key else ())))

    def covers(self, pool: Pool) -> bool:
        return self.target in (None, pool.region, pool.spec.name)

    def __str__(self) -> str:
        """What it does, for people."""
        where = self.target or "every backend"
        if self.kind == STALE:
            return f"the metrics of {where} stand still: its load is believed to be as it was"
        whose = f" for key {self.key}" if self.key else ""
        share = "" if self.share >= 1.0 else f"{self.share:.0%} of the "
        return f"{share}attempts at {where}{whose} {KINDS[self.kind][1].format(self.value)}"


@dataclass(frozen=True, slots=True)
class _Running:
    fault: InjectedFault
    end_s: float
    timer: asyncio.TimerHandle


class Chaos:
    """The faults of this process. Each ends by itself."""

    def __init__(self, pools: Pools, now_s: Callable[[], float], rng: Rng | None = None) -> None:
        self._pools = pools
        self._now_s = now_s
        self._rng = rng if rng is not None else random.Random()
        self._running: dict[str, _Running] = {}

    def start(self, fault: InjectedFault, for_s: float) -> None:
        """In place of the one that has its name, if there is one."""
        self.stop(fault.name)
        timer = asyncio.get_running_loop().call_later(for_s, self.stop, fault.name)
        self._running[fault.name] = _Running(fault, self._now_s() + for_s, timer)
        self.arrange()

    def stop(self, name: str) -> bool:
        """Whether there was one."""
        running = self._running.pop(name, None)
        if running is None:
            return False
        running.timer.cancel()
        self.arrange()
        return True

    def stop_all(self) -> None:
        for name in list(self._running):
            self.stop(name)

    def running(self) -> list[tuple[InjectedFault, float]]:
        """Each with the seconds that are left of it, the latest first."""
        now_s = self._now_s()
        return [(r.fault, max(0.0, r.end_s - now_s)) for r in reversed(self._running.values())]

    def backends(self, fault: InjectedFault) -> list[str]:
        return [pool.spec.name for pool in self._pools if fault.covers(pool)]

    def siblings(self, fault: InjectedFault, backend: str) -> list[InjectedFault]:
        """The fault of a region as one for each of its backends, but not for this one."""
        return [replace(fault, target=name) for name in self.backends(fault) if name != backend]

    def arrange(self) -> None:
        """Tell the pools. To be called again when there are other pools."""
        faults = [fault for fault, _ in self.running() if fault.kind != STALE]
        for pool in self._pools:
            met = [fault for fault in faults if fault.covers(pool)]
            pool.faults = Encounters(pool, met, self._rng) if met else None

    def stale(self, backend: str) -> bool:
        """Do the metrics of this backend stand still?"""
        pool = self._pools.get(backend)
        return pool is not None and any(f.kind == STALE and f.covers(pool) for f, _ in self.running())


class Encounters:
    """The faults that attempts at one backend may meet."""

    def __init__(self, pool: Pool, faults: list[InjectedFault], rng: Rng) -> None:
        self._pool = pool
        self._faults = [(fault, FaultyPool(pool, fault.kind, fault.value)) for fault in faults]
        self._rng = rng

    def pool_for(self, key: str | None) -> Pool:
        """The pool that an attempt of this key goes through."""
        for fault, faulty in self._faults:
            if fault.key in (None, key) and (fault.share >= 1.0 or self._rng.random() < fault.share):
                return faulty
        return self._pool
