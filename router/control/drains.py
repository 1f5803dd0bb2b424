"""Drains: an operator's wish that a backend or a region gets no new requests, for a while or until it is resumed."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from router import clock
from router.control.wishes import Wishes

_log = logging.getLogger("router.control")


@dataclass(frozen=True, slots=True)
class Drain:
    """Who wished it, when and why. Times are of the wall's clock; ``until_s`` None: until somebody resumes it."""

    since_s: float | None = None
    until_s: float | None = None
    by: str = ""
    reason: str = ""


class Drains(Wishes):
    kind = "drain"
    plural = "drains"

    async def set(
        self, name: str, draining: bool, *, by: str = "", reason: str = "", for_s: float | None = None
    ) -> bool:
        """Drain or resume a backend or a region; the caller knows that it exists. Takes effect here at once.

        Saying it again changes nothing, unless it says for how long, or why. Returns whether the other routers know:
        False while the store is away.
        """
        if not draining:
            return await self.put(self.ending(name))
        before = self.of(name)
        if before is not None and not reason and for_s is None:
            return await self.put({})
        now_s = clock.wall_s()
        since_s = before.since_s if before is not None and before.since_s is not None else now_s
        drain = Drain(since_s, None if for_s is None else now_s + for_s, by, reason)
        changes = {} if "/" in name else self.ending(name)
        return await self.put(changes | {name: orjson.dumps(asdict(drain)).decode()})

    def of(self, name: str) -> Drain | None:
        """The drain of a backend, its own or that of its region, or of a region. None: there is none."""
        region = name.partition("/")[0]
        value = self._wished.get(name, self._wished.get(region))
        return None if value is None else _read(value)

    async def sync(self) -> None:
        await super().sync()
        now_s = clock.wall_s()
        over = [name for name, value in self._wished.items() if (_read(value).until_s or now_s) < now_s]
        for name in over:
            _log.info("the drain of %s has lasted as long as it was meant to", name)
            await self.put(self.ending(name))
            self.note(self.kind, name, before="draining", after="resumed", why="its time is up")

    def apply(self, name: str, value: str | None) -> None:
        self._fleet.set_draining(name, value is not None)
        if value is None:
            _log.info("%s is resumed", name)
            return
        drain = _read(value)
        told = "".join((f", says {drain.by}" if drain.by else "", f": {drain.reason}" if drain.reason else ""))
        _log.info("%s is draining%s", name, told)


def _read(value: str) -> Drain:
    """A value that cannot be read, as routers before this one wrote it, is a drain all the same."""
    try:
        document: dict[str, Any] = orjson.loads(value)
        since_s, until_s = document["since_s"], document.get("until_s")
        return Drain(
            float(since_s) if since_s is not None else None,
            float(until_s) if until_s is not None else None,
            str(document.get("by", "")),
            str(document.get("reason", "")),
        )
    except (ValueError, TypeError, KeyError):
        return Drain()
