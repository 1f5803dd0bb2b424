"""Backends that prove themselves: because an operator asks, or because ``probation`` in the file makes it a condition.

One at a time. The result is in the store, under the name of the backend and with a hash of its address, engine and
models: what one router or worker has found out holds for all, and a router that starts again asks nobody a second time.
A backend that failed is measured again after some minutes, for it may only have been warming up.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from router import clock
from router.core.backend import Backend
from router.core.burn_in import report
from router.core.fleet import Fleet
from router.core.health import State
from router.core.types import BackendSpec
from router.errors import RouterError
from router.observe.measurement import Subject, measure
from router.observe.observer import Observer
from router.store.base import Store
from router.tasks import spawn, stop, supervise
from router.telemetry.history import Note, say_nothing

_log = logging.getLogger("router.control")

_PREFIX = "burn-in:"
_SYNC_S = 1.0
#: Of two routers that begin in this time the later one goes on.
_CLAIM_S = 0.2
#: A router that has begun and tells no result after this time is gone.
_RUN_S_MAX = 300.0
#: One that failed is measured again after this time.
_AGAIN_S = 300.0
_WAITING, _RUNNING, _PASSED, _FAILED = "waiting", "running", "passed", "failed"


@dataclass(slots=True)
class BurnIn:
    """The latest of one backend. ``at_s`` is of the wall clock, for other routers read it."""

    state: str
    by: str
    at_s: float
    identity: str
    stage: str = ""
    report: dict[str, Any] | None = field(default=None)

    @property
    def over(self) -> bool:
        return self.state in (_PASSED, _FAILED)

    def document(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "by": self.by,
            "age_s": max(0.0, clock.wall_s() - self.at_s),
            "stage": self.stage,
            "report": self.report,
        }


class BurnIns:
    """``router`` names this one towards the others."""

    def __init__(
        self, fleet: Fleet, store: Store, observer: Observer, *, router: str, now_s: Callable[[], float]
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._observer = observer
        self._router = router
        self._now_s = now_s
        self._known: dict[str, BurnIn] = {}
        self._wanted: dict[str, None] = {}  # in order, by operators
        self._loop_task: asyncio.Task[None] | None = None
        self._run_task: asyncio.Task[None] | None = None
        self.note: Note = say_nothing

    async def start(self) -> None:
        await self.sync()
        self._loop_task = supervise(self._loop, name="burn-ins")

    async def stop(self) -> None:
        await stop(self._loop_task, self._run_task)

    def begin(self, backend: str) -> BurnIn:
        """Measure a backend now, or as soon as the one that is being measured is done. Raises KeyError."""
        known = self._known.get(backend)
        running = known is not None and known.state == _RUNNING and known.by == self._router
        if not running:
            b = self._fleet.backends[backend]
            known = self._known[backend] = BurnIn(_WAITING, self._router, clock.wall_s(), identity_of(b.spec))
            self._wanted[backend] = None
            self._begin_next()
        assert known is not None
        return known

    def of(self, backend: str) -> BurnIn | None:
        """The latest burn-in of a backend, as far as this router knows."""
        known, b = self._known.get(backend), self._fleet.backends.get(backend)
        return known if known is not None and b is not None and known.identity == identity_of(b.spec) else None

    async def sync(self) -> None:
        """Learn what others have found out, let in who has passed, and begin with the next one that has to."""
        held = [b for b in self._fleet.backends.values() if b.burning_in_since_s is not None]
        if not held:
            return
        told = await self._told()
        for b in held:
            known = self.of(b.name)
            other = told.get(b.name)
            if other is not None and other.by == self._router and not other.over:
                other = None  # begun by the process before this one
            if other is not None and other.identity == identity_of(b.spec) and (known is None or not self._mine(known)):
                self._known[b.name] = known = other
            if known is not None and known.state == _PASSED:
                self._let_in(b)
            elif b.name not in self._wanted and self._due(known) and self._ready(b):
                self._wanted[b.name] = None
        self._begin_next()

    def _mine(self, known: BurnIn) -> bool:
        return known.by == self._router and not known.over

    def _due(self, known: BurnIn | None) -> bool:
        if known is None:
            return True
        age_s = clock.wall_s() - known.at_s
        return age_s >= _AGAIN_S if known.over else age_s >= _RUN_S_MAX

    def _ready(self, b: Backend) -> bool:
        return bool(b.health.last_probe_ok and b.models)

    def _let_in(self, b: Backend) -> None:
        if b.burning_in_since_s is not None:
            self._fleet.end_burn_in(b.name, self._now_s())
            _log.info("backend %s has passed its burn-in and gets requests", b.name)

    def _begin_next(self) -> None:
        if self._wanted and (self._run_task is None or self._run_task.done()):
            self._run_task = spawn(self._run_wanted(), name="burn-in")

    async def _run_wanted(self) -> None:
        while self._wanted:
            name = next(iter(self._wanted))
            del self._wanted[name]
            b = self._fleet.backends.get(name)
            if b is not None and await self._claim(b):
                await self._run(b)

    async def _claim(self, b: Backend) -> bool:
        """Tell the others that this router does it. Of two that say so at once the later one does."""
        asked = (known := self.of(b.name)) is not None and known.state == _WAITING
        mine = self._known[b.name] = BurnIn(_RUNNING, self._router, clock.wall_s(), identity_of(b.spec), "begins")
        await self._tell(b.name, mine)
        if asked:
            return True
        await asyncio.sleep(_CLAIM_S)
        other = (await self._told()).get(b.name)
        if other is None or other.by == self._router:
            return True
        self._known[b.name] = other
        return False

    async def _run(self, b: Backend) -> None:
        mine = self._known[b.name]
        self.note("burn-in", b.name, before=_WAITING, after=_RUNNING)

        def told(stage: str) -> None:
            mine.stage = stage

        try:
            document = await self._measure(b, told)
        except Exception as error:  # a fault of ours must not keep a backend in its burn-in without a word
            _log.exception("the burn-in of backend %s failed", b.name)
            document = {"passed": False, "beside": None, "checks": [], "steps": [], "error": type(error).__name__}
        passed = bool(document["passed"])
        mine = BurnIn(_PASSED if passed else _FAILED, self._router, clock.wall_s(), mine.identity, report=document)
        self._known[b.name] = mine
        failed = ", ".join(check["name"] for check in document["checks"] if not check["passed"])
        why = None if passed else failed or document.get("error", "no answer")
        self.note("burn-in", b.name, before=_RUNNING, after=mine.state, why=why)
        if not passed:
            _log.warning("backend %s failed its burn-in: %s", b.name, why)
        elif self._fleet.backends.get(b.name) is b:
            self._let_in(b)
        await self._tell(b.name, mine)

    async def _measure(self, b: Backend, told: Callable[[str], None]) -> dict[str, Any]:
        model = min(b.models or ("",))
        other = self._beside(b, model)
        beside = self._subject(other) if other is not None else None
        measured, theirs = await measure(self._observer.send, model, self._subject(b), beside, told)
        told("continues an answer")
        found = await self._observer.find_out(b.name)
        return {"model": model} | report(measured, theirs, f"{found.word}: {found.reason}")

    def _subject(self, b: Backend) -> Subject:
        serves = b.burning_in_since_s is None

        def places() -> int:
            free = int(b.capacity.limit) - b.inflight
            return free // 2 if serves else free

        return Subject(b.name, b.spec.engine, b.rtt_s, places)

    def _beside(self, b: Backend, model: str) -> Backend | None:
        """The least busy of the others that serve the model and are well."""
        others = [
            other
            for other in self._fleet.backends.values()
            if other is not b
            and other.serves(model)
            and other.state is State.HEALTHY
            and other.usable(self._now_s())
            and other.health.last_probe_ok is not False
        ]
        return min(others, key=lambda other: (other.inflight / other.capacity.limit, other.rtt_s), default=None)

    async def _told(self) -> dict[str, BurnIn]:
        try:
            runtime = await self._store.get_runtime()
        except RouterError:
            return {}
        found = {}
        for key, value in runtime.items():
            if key.startswith(_PREFIX) and (entry := _read(value)) is not None:
                found[key.removeprefix(_PREFIX)] = entry
        return found

    async def _tell(self, name: str, known: BurnIn) -> None:
        """The others do it themselves if they do not hear of it."""
        entry = {"state": known.state, "by": known.by, "at_s": known.at_s, "identity": known.identity}
        try:
            await self._store.set_runtime(_PREFIX + name, orjson.dumps(entry | {"report": known.report}).decode())
        except RouterError:
            _log.warning("the burn-in of backend %s cannot be told to other routers: the store is away", name)

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_S)
            await self.sync()


def identity_of(spec: BackendSpec) -> str:
    """Another one stands for another backend, whatever it is called."""
    text = "\n".join((spec.url, spec.engine, *spec.models))
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def _read(value: str) -> BurnIn | None:
    try:
        entry = orjson.loads(value)
        return BurnIn(entry["state"], entry["by"], entry["at_s"], entry["identity"], report=entry.get("report"))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
