"""Entries of one kind in the store, which every router comes in line with once a second.

Drains, notices and faults on purpose are made of this. An entry lives in the store as ``KIND:NAME``. While the store is
away a change takes effect at this router at once, and is handed to the store when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from router import clock
from router.complaint import Complaint
from router.errors import RouterError
from router.store.base import Store
from router.tasks import stop, supervise
from router.telemetry.history import Note, say_nothing

_log = logging.getLogger("router.control")

_SYNC_S = 1.0


class SharedEntries:
    """``plural`` is the word for the entries in the log.

    A subclass writes its changes into ``_unsent`` (None: the entry is over) and calls ``_send``, both under ``_lock``.
    """

    kind: str
    plural: str

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unsent: dict[str, str | None] = {}
        self._complaint = Complaint()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.note: Note = say_nothing

    def take(self, entries: Mapping[str, str]) -> None:
        """Come in line with what the store holds: all entries of the kind, by name."""
        raise NotImplementedError

    async def start(self) -> None:
        """Take over what the store says, then keep in line with it."""
        await self.sync()
        self._task = supervise(self._loop, name=self.plural)

    async def stop(self) -> None:
        await stop(self._task)

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
            self.take({key.removeprefix(prefix): v for key, v in runtime.items() if key.startswith(prefix)})
            await self._send()

    async def _send(self) -> bool:
        """Hand the changes over. Returns whether the store has them all."""
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
