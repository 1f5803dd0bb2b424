"""Faults on purpose, in force at all routers that share the store and allow them.

Each router comes in line with those in the store (see ``shared_entries``) until their time is up, by the wall clock. A
router whose configuration does not allow chaos looks away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from router import clock
from router.control.shared_entries import SharedEntries
from router.store.base import Store
from router.upstream.chaos import Chaos, InjectedFault

_log = logging.getLogger("router.control")

#: A fault that is forgotten ends within the hour, whatever the store or another router's clock says.
CHAOS_S_MAX = 3600.0


class SharedFaults(SharedEntries):
    """``allowed`` says whether the configuration in force permits them."""

    kind = "chaos"
    plural = "faults on purpose"

    def __init__(self, chaos: Chaos, store: Store, allowed: Callable[[], bool]) -> None:
        super().__init__(store)
        self.chaos = chaos
        self.allowed = allowed
        self._known: dict[str, str] = {}  # what the store says of those in force, by name
        self._begun: dict[str, InjectedFault] = {}  # here, and not ended by anybody

    async def stop(self) -> None:
        await super().stop()
        self.chaos.stop_all()

    async def begin(self, fault: InjectedFault, for_s: float) -> bool:
        """Takes effect here at once. Returns whether the other routers know: False while the store is away."""
        async with self._lock:
            self.chaos.start(fault, for_s)
            self._begun[fault.name] = fault
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
        if self.allowed():
            await super().sync()
        else:
            self._known.clear()
        self._note_those_that_are_over()

    def take(self, entries: Mapping[str, str]) -> None:
        now_s = clock.wall_s()
        for name, text in entries.items():
            read = _read(text)
            if read is None or read[1] <= now_s:
                self._unsent[name] = None
            elif self._known.get(name) != text:
                fault, until_s = read
                for_s = min(until_s - now_s, CHAOS_S_MAX)
                self.chaos.start(fault, for_s)
                _log.warning("chaos, as another router was told: %s, for %.0f s", fault, for_s)
                self._known[name] = text
        for name in [n for n in self._known if n not in entries]:
            del self._known[name]
            self.chaos.stop(name)

    def _end(self, fault: InjectedFault) -> None:
        self.chaos.stop(fault.name)
        self._begun.pop(fault.name, None)
        self._known.pop(fault.name, None)
        self._unsent[fault.name] = None

    def _note_those_that_are_over(self) -> None:
        if not self._begun:
            return
        running = {fault.name for fault, _ in self.chaos.running()}
        for name in [name for name in self._begun if name not in running]:
            fault = self._begun.pop(name)
            self.note("chaos", fault.target or f"key {fault.key}", before=str(fault), after="ended")


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
