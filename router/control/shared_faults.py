"""Faults on purpose, in force at all routers that share the store and allow them.

They live in the store as ``chaos:NAME`` until their time is up, by the wall clock. Each router comes in line with them
once a second; one whose configuration does not allow chaos looks away. While the store is away, a fault begins and ends
here at once and is handed to the store when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson

from router import clock
from router.complaint import Complaint
from router.errors import RouterError
from router.store.base import Store
from router.tasks import stop, supervise
from router.upstream.chaos import Chaos, InjectedFault

_log = logging.getLogger("router.control")

_PREFIX = "chaos:"
_SYNC_S = 1.0
#: A fault that is forgotten ends within the hour, whatever the store or another router's clock says.
CHAOS_S_MAX = 3600.0


class SharedFaults:
    """``allowed`` says whether the configuration in force permits them."""

    def __init__(self, chaos: Chaos, store: Store, allowed: Callable[[], bool]) -> None:
        self.chaos = chaos
        self.allowed = allowed
        self._store = store
        self._known: dict[str, str] = {}  # what the store says of those in force, by name
        self._unsent: dict[str, str | None] = {}
        self._complaint = Complaint()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.sync()
        self._task = supervise(self._loop, name="chaos")

    async def stop(self) -> None:
        await stop(self._task)
        self.chaos.stop_all()

    async def begin(self, fault: InjectedFault, for_s: float) -> bool:
        """Takes effect here at once. Returns whether the other routers know: False while the store is away."""
        async with self._lock:
            self.chaos.start(fault, for_s)
            self._unsent[fault.name] = self._known[fault.name] = _written(fault, for_s)
            _log.warning("chaos: %s, for %g s", fault, for_s)
            return await self._send()

    async def end(self, target: str | None) -> bool:
        """End the faults of a region and its backends, of a backend, or all. The rest of a region whose backend is
        named continues it. Returns whether the other routers know."""
        async with self._lock:
            for fault, left_s in self.chaos.running():
                region = (fault.target or "").partition("/")[0]
                if target in (None, fault.target, region):
                    self._end(fault)
                elif fault.target == (target or "").partition("/")[0]:
                    self._end(fault)
                    for sibling in self.chaos.siblings(fault, target):
                        self.chaos.start(sibling, left_s)
                        self._unsent[sibling.name] = self._known[sibling.name] = _written(sibling, left_s)
            return await self._send()

    async def sync(self) -> None:
        """Hand over what the store does not know yet, then do what it says."""
        if not self.allowed():
            self._known.clear()
            return
        async with self._lock:
            if not await self._send():
                return
            try:
                runtime = await self._store.get_runtime()
            except RouterError as exc:
                self._complain(f"faults on purpose cannot be read: {exc}")
                return
            self._complaint.settled()
            self._bring_in_line({n.removeprefix(_PREFIX): v for n, v in runtime.items() if n.startswith(_PREFIX)})
            await self._send()

    def _bring_in_line(self, wanted: dict[str, str]) -> None:
        now_s = clock.wall_s()
        for name, text in wanted.items():
            read = _read(text)
            if read is None or read[1] <= now_s:
                self._unsent[name] = None
            elif self._known.get(name) != text:
                fault, until_s = read
                for_s = min(until_s - now_s, CHAOS_S_MAX)
                self.chaos.start(fault, for_s)
                _log.warning("chaos, as another router was told: %s, for %.0f s", fault, for_s)
                self._known[name] = text
        for name in [n for n in self._known if n not in wanted]:
            del self._known[name]
            self.chaos.stop(name)

    def _end(self, fault: InjectedFault) -> None:
        self.chaos.stop(fault.name)
        self._known.pop(fault.name, None)
        self._unsent[fault.name] = None

    async def _send(self) -> bool:
        try:
            for name, text in list(self._unsent.items()):
                await self._store.set_runtime(_PREFIX + name, text)
                del self._unsent[name]
        except RouterError as exc:
            self._complain(f"faults on purpose cannot be shared: {exc}")
            return False
        return True

    def _complain(self, text: str) -> None:
        if self._complaint.worth_a_line(text, clock.monotonic_s()):
            _log.warning("%s", text)

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_S)
            await self.sync()


def _written(fault: InjectedFault, for_s: float) -> str:
    document = {"kind": fault.kind, "target": fault.target, "value": fault.value, "key": fault.key}
    return orjson.dumps(document | {"share": fault.share, "until_s": clock.wall_s() + for_s}).decode()


def _read(text: str) -> tuple[InjectedFault, float] | None:
    """The fault, and when it is over by the wall clock; None if another version of the router wrote it otherwise."""
    try:
        document: dict[str, Any] = orjson.loads(text)
        until_s = float(document.pop("until_s"))
        return InjectedFault(**document), until_s
    except (ValueError, TypeError, KeyError):
        return None
