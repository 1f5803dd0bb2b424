"""Backends whose engines sleep, shared through the store: they get no requests until they were woken."""

from __future__ import annotations

import logging

from router.control.wishes import Wishes

_log = logging.getLogger("router.control")


class Sleepers(Wishes):
    """``asleep``: what is known to sleep, as "engine" (it was asked to) or "scaled" (there is nothing to ask)."""

    kind = "asleep"
    plural = "sleeping backends"

    @property
    def asleep(self) -> dict[str, str]:
        return dict(self._wished)

    def apply(self, name: str, value: str | None) -> None:
        self._fleet.set_asleep(name, value is not None)
        _log.info("%s %s", name, "sleeps" if value is not None else "is awake")
