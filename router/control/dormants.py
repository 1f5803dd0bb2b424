"""Models of which nothing need run, as those know them who wake them and put them to sleep: how each is, the locks that
let one router act for all, and the words for operators.
"""

from __future__ import annotations

import logging
from asyncio import Task
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from router import clock
from router.complaint import Complaint
from router.config import Config, ModelAlias, WakeSection
from router.control.sleepers import Sleepers
from router.core.backend import Backend
from router.core.dormancy import Hindrance, is_off, rests
from router.core.fleet import Fleet
from router.core.types import Request
from router.errors import RouterError
from router.store.base import Store
from router.telemetry.history import Note, say_nothing

_log = logging.getLogger("router.control")

Document = dict[str, Any]


@dataclass(slots=True)
class Dormant:
    """One model that may sleep."""

    busy_s: float
    requests: int = -1
    told_s: float = float("-inf")
    #: when the wake began, and how long the last ones took; None: no wake is under way
    waking_s: float | None = None
    region: str | None = None  # that is woken, or was at last
    takes_s: float | None = None
    #: it is not tried before: to put it to sleep, to wake more of it
    cannot_until_s: float = float("-inf")
    no_more_until_s: float = float("-inf")
    #: the settings with which nothing could put it to sleep
    cannot_with: WakeSection | None = None
    task: Task[None] | None = None
    trouble: Hindrance | None = None
    #: why nothing puts it to sleep
    restless: str | None = None
    complaint: Complaint | None = None

    @property
    def idling(self) -> bool:
        """It is neither woken nor put to sleep now."""
        return self.task is None or self.task.done()


#: How a model may be that may sleep; of several routers' views the first of these holds.
STATES = ("failing", "waking", "running", "asleep")


def merged(views: Iterable[Sequence[Document]]) -> list[Document]:
    """The documents of several routers or workers as one list: who sees trouble is right, all requests count."""
    models: dict[str, list[Document]] = {}
    for view in views:
        for document in view:
            models.setdefault(document["model"], []).append(document)
    return [
        min(found, key=lambda d: STATES.index(d["state"])) | {"held": sum(d["held"] for d in found)}
        for found in models.values()
    ]


class Dormants:
    """``held`` has the requests that are held for a model, the oldest first."""

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        sleepers: Sleepers,
        config: Callable[[], Config],
        held: Callable[[str], Sequence[Request]],
        *,
        now_s: Callable[[], float],
    ) -> None:
        self.fleet = fleet
        self.sleepers = sleepers
        self.config = config
        self.held = held
        self.now_s = now_s
        self.models: dict[str, Dormant] = {}
        #: calls that were made, and those of them that failed, by model and action
        self.calls: dict[tuple[str, str], int] = {}
        self.failures: dict[tuple[str, str], int] = {}
        self.note: Note = say_nothing
        self._store = store

    def known(self, model: str) -> Dormant:
        known = self.models.get(model)
        if known is None:
            known = self.models[model] = Dormant(self.now_s())
        return known

    def settings(self, model: str) -> ModelAlias:
        return self.config().models.get(model) or ModelAlias(model)

    def takes_s(self, model: str, known: Dormant) -> float:
        return self.settings(model).cold_start_s if known.takes_s is None else known.takes_s

    def backends(self, model: str) -> list[Backend]:
        return [b for b in self.fleet.backends.values() if b.serves(model)]

    def runs(self, model: str) -> bool:
        now_s = self.now_s()
        return any(b.usable(now_s) and not b.health.away for b in self.backends(model))

    def there(self, model: str, region: str) -> int:
        now_s = self.now_s()
        return sum(b.region == region and b.usable(now_s) for b in self.backends(model))

    def trouble(self, model: str) -> Hindrance | None:
        """Why the model cannot be woken, as far as the last calls tell. None: it can, or it runs."""
        known = self.models.get(model)
        return None if known is None or known.trouble is None or self.runs(model) else known.trouble

    # towards operators

    def rests(self, b: Backend) -> bool:
        """It sleeps on purpose, and can be woken as far as is known."""
        if not rests(b, self.fleet.backends.values(), self.fleet.dormant, self.now_s()):
            return False
        return not any(self.trouble(model) for model in b.models or ())

    def story(self, b: Backend) -> tuple[float | None, str] | None:
        """(since when on the wall's clock, why) for one that sleeps, or does not run and cannot be woken. None: it is
        neither."""
        models = sorted(m for m in b.models or () if m in self.fleet.dormant)
        found = next((t for model in models if (t := self.trouble(model)) is not None), None)
        if found is not None and is_off(b):
            return clock.wall_s() - self.now_s() + found.since_s, found.why
        if not self.rests(b):
            return None
        waking = any((k := self.models.get(m)) is not None and k.waking_s is not None for m in models)
        why = "it is being woken" if waking else "it sleeps until a request comes"
        return self.sleepers.since_s(b.name) or self._off_since_s(b), why

    def _off_since_s(self, b: Backend) -> float | None:
        """When the last request ended there, for one that nobody has put to sleep."""
        return clock.wall_s() - self.now_s() + max(b.last_end_s, b.born_s)

    def document(self) -> list[Document]:
        """Every model of which nothing need run, for the admin API."""
        now_s = self.now_s()
        documents = []
        for model in self.fleet.dormant:
            known, backends = self.known(model), self.backends(model)
            trouble = self.trouble(model)
            state = "running" if self.runs(model) else "asleep" if known.waking_s is None else "waking"
            documents.append(
                {
                    "model": model,
                    "state": state if trouble is None else "failing",
                    "region": known.region,
                    "waking_s": None if known.waking_s is None else now_s - known.waking_s,
                    "takes_s": self.takes_s(model, known),
                    "held": len(self.held(model)),
                    "asleep": [b.name for b in backends if self.rests(b)],
                    "problem": known.restless if trouble is None else trouble.why,
                    "failing_s": None if trouble is None else now_s - trouble.since_s,
                    "tries": 0 if trouble is None else trouble.tries,
                    "again_s": None if trouble is None else max(0.0, trouble.again_s - now_s),
                }
            )
        return documents

    # with other routers

    async def claim(self, name: str, ttl_s: float) -> bool:
        """While the store is away every router acts for itself: a second call does less harm than none."""
        try:
            return await self._store.claim(name, ttl_s)
        except RouterError:
            return True

    async def claim_all(self, names: Collection[str], ttl_s: float) -> bool:
        """All of them, or none."""
        taken: list[str] = []
        for name in names:
            if not await self.claim(name, ttl_s):
                await self.release(*taken)
                return False
            taken.append(name)
        return True

    async def release(self, *names: str) -> None:
        try:
            for name in names:
                await self._store.release(name)
        except RouterError:
            return

    # what is told

    def count(self, model: str, action: str) -> None:
        self.calls[model, action] = self.calls.get((model, action), 0) + 1

    def fail(self, model: str, known: Dormant, action: str, text: str) -> None:
        self.failures[model, action] = self.failures.get((model, action), 0) + 1
        self.complain(known, text)

    def complain(self, known: Dormant, text: str) -> None:
        known.complaint = known.complaint or Complaint()
        if known.complaint.worth_a_line(text, self.now_s()):
            _log.warning("%s", text)

    def tell(self, kind: str, model: str, before: str, after: str, why: str) -> None:
        """In the history."""
        self.note(kind, model, before=before, after=after, why=why, who=f"router {self.config().router.name}")
