"""Drains: an operator's wish that a backend or a region gets no new requests."""

from __future__ import annotations

import logging

from router.control.wishes import Wishes

_log = logging.getLogger("router.control")


class Drains(Wishes):
    kind = "drain"
    plural = "drains"

    async def set(self, name: str, draining: bool) -> bool:
        """Drain or resume a backend or a region; the caller knows that it exists. Takes effect here at once.

        Returns whether the other routers know: False while the store is away.
        """
        changes = {} if draining and "/" in name else self.ending(name)
        return await self.put(changes | ({name: "1"} if draining else {}))

    def apply(self, name: str, value: str | None) -> None:
        self._fleet.set_draining(name, value is not None)
        _log.info("%s is %s", name, "draining" if value is not None else "resumed")
