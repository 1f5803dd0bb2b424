"""Backends that say themselves where they are, over the admin API, for as long as they say it again.

A registration is shared through the store like a wish of an operator, so that every router and worker knows it. Each
counts its time from when it saw the last renewal, by its own clock; while the store is away it does not let those end
that may be renewed at other routers. One that ends is a backend that its source names no more (core/roll).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from router import clock
from router.config import Config
from router.control.wishes import Wishes
from router.core.fleet import Fleet
from router.core.roll import Leaves, Sighting
from router.core.types import BackendSpec
from router.discovery.sources import REGISTERED, Sources
from router.errors import RouterError
from router.store.base import Store

_log = logging.getLogger("router.control")

#: A registration that ended is forgotten so long after its end, by the first router that notices.
_FORGOTTEN_S = 60.0
#: One that leaves at once is shown leaving for this long.
_TOLD_S = 3.0
#: Within one lease.
_RENEWALS = 3
_LEASE, _ITSELF = "lease", "the backend itself"
#: What a registration says of a backend; the region's own keys hold besides.
FIELDS = ("url", "engine", "models", "max_inflight", "cost_usd_hour", "notice_url")


@dataclass(frozen=True, slots=True)
class Registration:
    """``seen_s``: when this process saw its last renewal. ``leaves_s``: when it goes away, counted from then."""

    fields: dict[str, Any]
    lease_s: float
    by: str
    seen_s: float
    leaves_s: float | None = None

    @property
    def until_s(self) -> float:
        return self.seen_s + (self.lease_s if self.leaves_s is None else self.leaves_s)

    @property
    def renew_s(self) -> float:
        """How often it should say so again: two renewals may be lost, and a router that was restarted without a
        store hears of it as soon."""
        return self.lease_s / _RENEWALS


class Registrations(Wishes):
    """``router`` names this one towards the others."""

    kind = "backend"
    plural = "registrations"

    def __init__(self, fleet: Fleet, store: Store, sources: Sources, *, router: str) -> None:
        super().__init__(fleet, store)
        self._sources = sources
        self._router = router
        self._known: dict[str, Registration] = {}
        #: those whose end was told
        self._over: set[str] = set()

    def of(self, name: str) -> Registration | None:
        known = self._known.get(name)
        return None if known is None or self._ended(known, clock.monotonic_s()) else known

    async def register(self, name: str, fields: Mapping[str, Any], lease_s: float) -> bool:
        """A backend is there, and says so again within ``lease_s``; the caller has checked what it says.

        Returns whether the other routers know: False while the store is away.
        """
        value = {"fields": dict(fields), "lease_s": lease_s, "by": self._router, "at_s": clock.wall_s()}
        return await self._put(name, value)

    async def leave(self, name: str, in_s: float) -> bool:
        """A registered backend goes away in ``in_s``. The same return."""
        known = self._known[name]
        value = {"fields": known.fields, "lease_s": known.lease_s, "by": self._router, "at_s": clock.wall_s()}
        return await self._put(name, value | {"leaves_s": in_s})

    async def _put(self, name: str, value: dict[str, Any]) -> bool:
        shared = await self.put({name: orjson.dumps(value).decode()})
        self._tell()
        self._sources.changed()
        return shared

    async def sync(self) -> None:
        await super().sync()
        now_s = clock.monotonic_s()
        forgotten = {n: None for n, r in self._known.items() if now_s > r.until_s + _FORGOTTEN_S and self._may_end(r)}
        if forgotten:
            await self.put(forgotten)
        ended = {name for name, known in self._known.items() if now_s >= known.until_s and self._may_end(known)}
        for name in sorted(ended - self._over):
            await self._note_end(name, self._known[name])
        self._over = ended
        self._tell()

    async def _note_end(self, name: str, known: Registration) -> None:
        """In the history, once for all routers: the first one that sees it."""
        try:
            first = await self._store.claim(f"end of {name}", _FORGOTTEN_S)
        except RouterError:
            first = known.by == self._router
        if first and known.leaves_s is not None:
            self.note(_LEASE, name, before="leaving", after="left", why="it said good-bye", who=_ITSELF)
        elif first:
            why = f"it has not said for {known.lease_s:g} s that it is there"
            self.note(_LEASE, name, before="registered", after="expired", why=why, who=_ITSELF)

    def apply(self, name: str, value: str | None) -> None:
        read = _read(value)
        if read is None:
            self._known.pop(name, None)
            return
        if name not in self._known:
            _log.info("%s is registered at %s", name, read.by)
        self._known[name] = replace(read, seen_s=clock.monotonic_s())

    def _tell(self) -> None:
        """Tell the roll who is registered now."""
        if not self._known and not self._sources.roll.heard_from(REGISTERED):
            return
        now_s = clock.monotonic_s()
        sightings = []
        for name, known in self._known.items():
            if not self._ended(known, now_s) and (spec := self._spec(name, known)) is not None:
                leaves = None if known.leaves_s is None else Leaves(known.until_s, "the backend itself")
                sightings.append(Sighting(spec, leaves=leaves, facts=(("by", known.by),)))
        self._sources.tell(REGISTERED, sightings)

    def _spec(self, name: str, known: Registration) -> BackendSpec | None:
        """None: its region is not in this router's file, or another version of this program has written this."""
        try:
            return registered_spec(self._sources.config, name, known.fields)
        except TypeError:
            return None

    def _ended(self, known: Registration, now_s: float) -> bool:
        """One that leaves is told for long enough that every router sees it leaving: its end is believed at once."""
        told_s = 0.0 if known.leaves_s is None else _TOLD_S
        return now_s >= known.until_s + told_s and self._may_end(known)

    def _may_end(self, known: Registration) -> bool:
        """One that was last renewed elsewhere may have been renewed since, if the store is away."""
        return known.by == self._router or self._store.state == "up"


def registered_spec(config: Config, name: str, fields: Mapping[str, Any]) -> BackendSpec | None:
    """The backend of a registration, with the keys of its region. None: there is no such region."""
    region = next((r for r in config.regions if r.spec.name == name.partition("/")[0]), None)
    if region is None:
        return None
    given: dict[str, Any] = dict(region.shared)
    given |= {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items() if k in FIELDS}
    return BackendSpec(name=name, region=region.spec, **given)


def _read(value: str | None) -> Registration | None:
    """None also for a value that cannot be read."""
    if value is None:
        return None
    try:
        document = orjson.loads(value)
        leaves_s = document.get("leaves_s")
        return Registration(
            dict(document["fields"]),
            float(document["lease_s"]),
            str(document["by"]),
            0.0,
            None if leaves_s is None else float(leaves_s),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
