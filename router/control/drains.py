"""Drains: an operator's wish that a backend or a region gets no new requests, shared by all routers.

The wishes live in the store as ``drain:NAME``. Each router brings its fleet in line with them once a second. While the
store is away a wish takes effect here at once and is handed to the store when it is back.
"""

from __future__ import annotations

import asyncio
import logging

from router import clock
from router.complaint import Complaint
from router.core.fleet import Fleet
from router.errors import RouterError
from router.store.base import Store
from router.tasks import stop, supervise

_log = logging.getLogger("router.control")

_PREFIX = "drain:"
_SYNC_S = 1.0


class Drains:
    def __init__(self, fleet: Fleet, store: Store) -> None:
        self._fleet = fleet
        self._store = store
        self._drained: set[str] = set()  # names of regions and backends
        self._applied: set[str] = set()
        self._unsent: dict[str, bool] = {}
        self._complaint = Complaint()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over what the store says, then keep in line with it."""
        await self.sync()
        self._task = supervise(self._loop, name="drains")

    async def stop(self) -> None:
        await stop(self._task)

    async def set(self, name: str, draining: bool) -> bool:
        """Drain or resume a backend or a region; the caller knows that it exists. Takes effect here at once.

        Returns whether the other routers know: False while the store is away.
        """
        async with self._lock:
            for changed, wanted in self._changes(name, draining).items():
                (self._drained.add if wanted else self._drained.discard)(changed)
                self._unsent[changed] = wanted
            self._bring_in_line()
            return await self._send()

    async def sync(self) -> None:
        """Hand over what the store does not know yet, then do what it says."""
        async with self._lock:
            if not await self._send():
                return
            try:
                runtime = await self._store.get_runtime()
            except RouterError as exc:
                self._complain(f"drains cannot be read: {exc}")
                return
            if self._complaint.settled():
                _log.info("drains are in line with the store again")
            self._drained = {key.removeprefix(_PREFIX) for key in runtime if key.startswith(_PREFIX)}
            self._bring_in_line()

    def _changes(self, name: str, draining: bool) -> dict[str, bool]:
        """The wishes to write. One for a region covers its backends; to resume one backend of a drained region, the
        region's wish becomes one for each of the others."""
        region, _, short = name.partition("/")
        siblings = [b.name for b in self._fleet.backends.values() if b.region == region]
        if not short:
            return {name: draining} | {b: False for b in siblings if b in self._drained}
        if draining or region not in self._drained:
            return {name: draining}
        return {region: False} | {b: b != name for b in siblings}

    def _bring_in_line(self) -> None:
        """Tell the fleet what has changed."""
        for name in sorted(self._applied ^ self._drained):
            draining = name in self._drained
            self._fleet.set_draining(name, draining)
            _log.info("%s is %s", name, "draining" if draining else "resumed")
        self._applied = set(self._drained)

    async def _send(self) -> bool:
        try:
            for name, wanted in list(self._unsent.items()):
                await self._store.set_runtime(_PREFIX + name, "1" if wanted else None)
                del self._unsent[name]
        except RouterError as exc:
            self._complain(f"drains cannot be shared: {exc}")
            return False
        return True

    def _complain(self, text: str) -> None:
        if self._complaint.worth_a_line(text, clock.monotonic_s()):
            _log.warning("%s", text)

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_S)
            await self.sync()
