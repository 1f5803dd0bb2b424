"""Notices: word that a backend or a region goes away at a known time.

It stays out afterwards until its notice is cancelled or it is resumed, or until it is back: once it was not there after
the time, and then answers its probes again, it is another machine, and its notice is over.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import orjson

from router import clock
from router.control.wishes import Wishes
from router.core.backend import Backend
from router.core.leaving import Notice

_log = logging.getLogger("router.control")

#: The notice of something that nobody knows any more is forgotten so long after its end.
_FORGOTTEN_S = 3600.0


class Notices(Wishes):
    """In the store times are those of the wall; here they are read once and then those of this process's clock."""

    kind = "notice"
    plural = "notices"

    #: read from values, so that a step of the wall's clock moves none of them
    _read: dict[str, Notice]
    #: backends that were not there after their time
    _gone: set[str]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._read, self._gone = {}, set()

    async def give(self, name: str, in_s: float, by: str) -> bool:
        """``name`` goes away in ``in_s`` seconds; the caller knows that it exists. One that was given before and ends
        sooner holds: saying it again changes nothing, and gives no more time.

        Returns whether the other routers know: False while the store is away.
        """
        now_s, before = clock.monotonic_s(), self._notice(self._wished.get(name))
        if before is not None and now_s < before.until_s <= now_s + in_s:
            return await self.put({})
        since_s = clock.wall_s()
        value = {"since_s": since_s, "until_s": since_s + in_s, "by": by}
        return await self.put({name: orjson.dumps(value).decode()})

    async def cancel(self, name: str) -> bool:
        """It stays. The same return."""
        return await self.put(self.ending(name))

    async def sync(self) -> None:
        await super().sync()
        if over := self._over():
            await self.put(over)

    def apply(self, name: str, value: str | None) -> None:
        notice = self._notice(value)
        self._fleet.set_notice(name, notice)
        if notice is None:
            _log.info("%s has no notice any more", name)
        else:
            left_s = notice.until_s - clock.monotonic_s()
            when = f"goes away in {left_s:.0f} s" if left_s > 0 else "has gone"
            _log.info("%s %s, says %s: no new requests there", name, when, notice.by)

    def _notice(self, value: str | None) -> Notice | None:
        """None also for a value that cannot be read."""
        if value is None:
            return None
        if value not in self._read:
            self._read = {known: notice for known, notice in self._read.items() if known in self._wished.values()}
            try:
                document = orjson.loads(value)
                since_s, until_s = float(document["since_s"]), float(document["until_s"])
                by = str(document["by"])
            except (ValueError, TypeError, KeyError):
                return None
            if not (math.isfinite(since_s) and math.isfinite(until_s)):
                return None
            shift_s = clock.monotonic_s() - clock.wall_s()
            self._read[value] = Notice(since_s + shift_s, until_s + shift_s, by)
        return self._read[value]

    def _over(self) -> dict[str, str | None]:
        """The changes that end notices whose backends are back, or which nobody needs."""
        now_s, changes = clock.monotonic_s(), dict[str, str | None]()
        for b in self._fleet.leaving():
            if (b.name in self._wished or b.region in self._wished) and self._is_back(b, now_s):
                _log.info("%s is back", b.name)
                self.note(self.kind, b.name, before="gone", after="back", why="it answers its probes again")
                changes |= self.ending(b.name)
                break  # the next one in a second: each changes what the next would begin with
        known = {name for b in self._fleet.backends.values() for name in (b.name, b.region)}
        for name, value in self._wished.items():
            notice = self._notice(value)
            if name not in known and (notice is None or now_s > notice.until_s + _FORGOTTEN_S):
                changes[name] = None
        return changes

    def _is_back(self, b: Backend, now_s: float) -> bool:
        if b.leaving is None or now_s < b.leaving.until_s:
            self._gone.discard(b.name)
            return False
        if b.health.away:
            self._gone.add(b.name)
            return False
        return b.name in self._gone
