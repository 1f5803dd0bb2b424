"""When an engine is asked whether it can continue answers of others.

Once after it came within reach, and again after it was away or its models changed. One engine at a time, and a busy one
is left alone for a while. Its answers do not count for its health.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from router.complaint import Complaint
from router.core.fleet import Fleet
from router.core.traits import Continues
from router.core.types import BackendSpec
from router.observe.client import AskFailedError, EngineClient, ProbeAnswer
from router.observe.continuing import Finding, UnclearError, find_out, settled

_log = logging.getLogger("router.observe")

_TIMEOUT_S = 30.0
_BYTES_MAX = 256 * 1024
#: An engine that has just come within reach is left to the requests that waited for it.
_FIRST_S = 1.0
#: A busy engine is looked at again after this time; after as many looks it is asked all the same.
_BUSY_S = 1.0
_LOOKS_MAX = 120
#: An engine whose answer said nothing is asked again after this time, then after twice as long ...
_AGAIN_S = 2.0
_AGAIN_S_MAX = 300.0


class Proving:
    """Keeps the finding of one backend. ``turn`` is shared by all: one engine is asked at a time."""

    def __init__(
        self,
        spec: BackendSpec,
        key: str | None,
        fleet: Fleet,
        client: EngineClient,
        turn: asyncio.Semaphore,
        *,
        now_s: Callable[[], float],
    ) -> None:
        self._spec = spec
        self._key = key
        self._fleet = fleet
        self._client = client
        self._turn = turn
        self._now_s = now_s
        self._due = asyncio.Event()
        self._models: tuple[str, ...] = ()
        self._complaint = Complaint()
        known = settled(spec)
        self.asks = known is None
        self.finding = known or Finding(None, "not asked yet")
        fleet.observe_continues(spec.name, self.finding.how or Continues.NO)

    def answers(self, models: tuple[str, ...]) -> None:
        """The backend has come within reach, or serves other models than before."""
        self._models = models
        if models:
            self._due.set()

    async def run(self) -> None:
        """Ask whenever there is a reason to. For ever; cancel it."""
        while True:
            await self._due.wait()
            await asyncio.sleep(_FIRST_S)
            await self._until_idle()
            again_s = _AGAIN_S
            while not await self.ask():
                await asyncio.sleep(again_s)
                again_s = min(2.0 * again_s, _AGAIN_S_MAX)

    async def ask(self) -> bool:
        """Ask now. Returns whether anything is known; what was known before stays when nothing was found out."""
        async with self._turn:
            self._due.clear()
            if not self._models:
                return False
            model = self._models[0]
            try:
                finding = await find_out(self._send, self._spec.engine, model)
            except (UnclearError, AskFailedError) as error:
                if self.finding.how is None:
                    self.finding = Finding(None, str(error), model, self._now_s())
                return False
        self.finding = replace(finding, at_s=self._now_s())
        self._fleet.observe_continues(self._spec.name, finding.how or Continues.NO)
        if finding.how is Continues.NO and self._complaint.worth_a_line(finding.reason, self._now_s()):
            _log.warning("backend %s cannot continue answers of others: %s", self._spec.name, finding.reason)
        return True

    async def _send(self, path: str, body: bytes) -> ProbeAnswer:
        return await self._client.ask(
            self._spec, path, key=self._key, timeout_s=_TIMEOUT_S, bytes_max=_BYTES_MAX, body=body
        )

    async def _until_idle(self) -> None:
        """Leave it alone while requests wait there."""
        for _ in range(_LOOKS_MAX):
            if not self._busy():
                return
            await asyncio.sleep(_BUSY_S)

    def _busy(self) -> bool:
        backend = self._fleet.backends.get(self._spec.name)
        if backend is None:
            return True
        load = backend.others.fresh_load(self._now_s())
        return backend.inflight * 2 >= backend.capacity.limit or (load is not None and bool(load.waiting))
