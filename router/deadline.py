"""Deadlines that are fair to the other side: time in which this process was held up is not held against it.

A process that is busy, or starved by others, finds its timer over while the answer lies unread in the socket. So a
deadline looks at the clock several times on the way. When a look comes late, the process has been held up, and perhaps
who is asked beside it: the deadline moves by that, or a multiple of it, and the sockets are read before the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

#: A look that is late by less than this is on time.
LAG_S = 0.005
LOOKS = 4
#: By how many times its lateness a look moves the deadline, unless somebody waits for it.
FAIRNESS = 3.0
#: A process that was held up for more than this part of its patience may not have read what had come.
HELD_UP = 0.3
#: A process that is held up all the time gives up in the end: after ten times its patience.
HELD_UP_MAX = 10
#: Turns of the event loop between the end of patience and the verdict: an answer that lies in the socket takes four to
#: where it is waited for.
TURNS = 6


class Deadline:
    """Calls ``over`` after ``patience_s`` in which this process could have read an answer, unless it is cancelled. With
    ``fairness`` 0 it comes on time, and only reads first. If ``over`` returns True, it begins again."""

    __slots__ = (
        "_due_s",
        "_fairness",
        "_last_s",
        "_late_s",
        "_look_s",
        "_loop",
        "_over",
        "_patience_s",
        "_step_s",
        "_timer",
        "_turns",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patience_s: float,
        over: Callable[[], bool | None],
        *,
        fairness: float = FAIRNESS,
    ) -> None:
        self._loop = loop
        self._over = over
        self._fairness = fairness
        self._patience_s = patience_s
        self._step_s = patience_s / LOOKS
        self._begin()

    @property
    def held_up(self) -> bool:
        """Was this process?"""
        return self._late_s > HELD_UP * self._patience_s

    def cancel(self) -> None:
        self._timer.cancel()

    def _begin(self) -> None:
        now_s = self._loop.time()
        self._late_s = 0.0
        self._due_s = now_s + self._patience_s
        self._last_s = now_s + (1 + HELD_UP_MAX) * self._patience_s
        self._turns = TURNS
        self._look_s = now_s + self._step_s
        self._timer: asyncio.Handle = self._loop.call_at(self._look_s, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        late_s = now_s - self._look_s
        if late_s > LAG_S:
            self._late_s += late_s
            self._due_s = min(max(self._due_s + self._fairness * late_s, now_s + LAG_S), self._last_s)
        if now_s >= self._due_s:
            self._read_first()
            return
        self._look_s = min(now_s + self._step_s, self._due_s)
        self._timer = self._loop.call_at(self._look_s, self._look)

    def _read_first(self) -> None:
        if not self._turns:
            if self._over():
                self._begin()
            return
        self._turns -= 1
        self._timer = self._loop.call_soon(self._read_first)


@contextlib.asynccontextmanager
async def within(
    patience_s: float, *, fairness: float = FAIRNESS, again: Callable[[], bool] = lambda: False
) -> AsyncIterator[None]:
    """As ``asyncio.timeout``. With ``fairness`` 1 just the time is given back in which this process was held up.
    ``again`` is asked when the time is over: whether it begins again."""
    async with asyncio.timeout(None) as scope:

        def over() -> bool:
            if again():
                return True
            scope.reschedule(0.0)
            return False

        deadline = Deadline(asyncio.get_running_loop(), patience_s, over, fairness=fairness)
        try:
            yield
        finally:
            deadline.cancel()
