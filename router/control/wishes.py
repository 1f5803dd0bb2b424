"""Operators' wishes about backends and regions, shared by all routers: drains and notices are made of this.

A wish lives in the store under its kind and the name that it is about. Each router brings its fleet in line with the
wishes once a second. While the store is away a wish takes effect here at once and is handed to the store when it is
back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from router import clock
from router.complaint import Complaint
from router.core.fleet import Fleet
from router.errors import RouterError
from router.store.base import Store
from router.tasks import stop, supervise

_log = logging.getLogger("router.control")

_SYNC_S = 1.0


class Wishes:
    """Wishes of one ``kind``: the name of a backend or a region, and a value. ``plural`` is for the log."""

    kind: str
    plural: str

    def __init__(self, fleet: Fleet, store: Store) -> None:
        self._fleet = fleet
        self._store = store
        self._wished: dict[str, str] = {}
        self._applied: dict[str, str] = {}
        self._unsent: dict[str, str | None] = {}
        self._complaint = Complaint()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def apply(self, name: str, value: str | None) -> None:
        """Tell the fleet. None: the wish is over."""
        raise NotImplementedError

    async def start(self) -> None:
        """Take over what the store says, then keep in line with it."""
        await self.sync()
        self._task = supervise(self._loop, name=self.plural)

    async def stop(self) -> None:
        await stop(self._task)

    async def put(self, changes: Mapping[str, str | None]) -> bool:
        """Wish, or end wishes. Takes effect here at once.

        Returns whether the other routers know: False while the store is away.
        """
        async with self._lock:
            for name, value in changes.items():
                self._wished.pop(name, None)
                if value is not None:
                    self._wished[name] = value
                self._unsent[name] = value
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
                self._complain(f"{self.plural} cannot be read: {exc}")
                return
            if self._complaint.settled():
                _log.info("%s are in line with the store again", self.plural)
            prefix = f"{self.kind}:"
            self._wished = {key.removeprefix(prefix): v for key, v in runtime.items() if key.startswith(prefix)}
            self._bring_in_line()

    def ending(self, name: str) -> dict[str, str | None]:
        """The changes that end the wish for ``name``. That of a region ends those for its backends; to end it for one
        backend of a region, the region's wish becomes one for each of the others."""
        region, _, short = name.partition("/")
        siblings = [b.name for b in self._fleet.backends.values() if b.region == region]
        if not short:
            return dict.fromkeys([name, *(b for b in siblings if b in self._wished)])
        if region not in self._wished:
            return {name: None}
        value = self._wished[region]
        others: dict[str, str | None] = {b: self._wished.get(b, value) for b in siblings if b != name}
        return {region: None, name: None} | others

    def _bring_in_line(self) -> None:
        for name in sorted({*self._applied, *self._wished}):
            if (value := self._wished.get(name)) != self._applied.get(name):
                self.apply(name, value)
        self._applied = dict(self._wished)

    async def _send(self) -> bool:
        try:
            for name, value in list(self._unsent.items()):
                await self._store.set_runtime(f"{self.kind}:{name}", value)
                del self._unsent[name]
        except RouterError as exc:
            self._complain(f"{self.plural} cannot be shared: {exc}")
            return False
        return True

    def _complain(self, text: str) -> None:
        if self._complaint.worth_a_line(text, clock.monotonic_s()):
            _log.warning("%s", text)

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_S)
            await self.sync()
