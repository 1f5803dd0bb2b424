"""Deadlines that are fair to the other side: time in which this process was held up is not held against it.

A process that is busy, or starved by others, finds its timer over while the answer lies unread in the socket. It reads
first: as long as the timer itself comes late, it is set again for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

#: A deadline noticed this late was missed by this process.
LAG_S = 0.005
#: A process that is held up all the time gives up in the end: after so many times its patience.
HELD_UP_MAX = 10


class Deadline:
    """Calls ``over`` after ``patience_s``, unless it is cancelled."""

    __slots__ = ("_due_s", "_last_s", "_loop", "_over", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, patience_s: float, over: Callable[[], None]) -> None:
        self._loop = loop
        self._over = over
        now_s = loop.time()
        self._due_s = now_s + patience_s
        self._last_s = now_s + (1 + HELD_UP_MAX) * patience_s
        self._timer = loop.call_at(self._due_s, self._look)

    def cancel(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now_s = self._loop.time()
        if now_s - self._due_s > LAG_S and now_s < self._last_s:
            self._due_s = now_s + LAG_S  # by then the loop has looked at its sockets
            self._timer = self._loop.call_at(self._due_s, self._look)
        else:
            self._over()


@contextlib.asynccontextmanager
async def within(patience_s: float) -> AsyncIterator[None]:
    """As ``asyncio.timeout``."""
    async with asyncio.timeout(None) as scope:
        deadline = Deadline(asyncio.get_running_loop(), patience_s, lambda: scope.reschedule(0.0))
        try:
            yield
        finally:
            deadline.cancel()
