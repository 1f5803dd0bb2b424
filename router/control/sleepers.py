"""Backends whose engines sleep, shared through the store: they get no requests until they were woken."""

from __future__ import annotations

import logging

from router import clock
from router.control.wishes import Wishes
from router.core.fleet import Fleet
from router.store.base import Store

_log = logging.getLogger("router.control")


class Sleepers(Wishes):
    """``asleep``: what is known to sleep, as "engine" (it was asked to) or "scaled" (there is nothing to ask)."""

    kind = "asleep"
    plural = "sleeping backends"

    def __init__(self, fleet: Fleet, store: Store) -> None:
        super().__init__(fleet, store)
        self._since_s: dict[str, float] = {}

    def since_s(self, backend: str) -> float | None:
        """When this router heard that it sleeps, on the wall's clock."""
        return self._since_s.get(backend)

    @property
    def asleep(self) -> dict[str, str]:
        return dict(self._wished)

    def apply(self, name: str, value: str | None) -> None:
        self._fleet.set_asleep(name, value is not None)
        self._since_s.pop(name, None)
        if value is not None:
            self._since_s[name] = clock.wall_s()
        _log.info("%s %s", name, "sleeps" if value is not None else "is awake")
