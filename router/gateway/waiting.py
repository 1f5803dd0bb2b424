"""Where requests wait until a backend can take them. The order is the queue's: ``core/admission.py``."""

from __future__ import annotations

import asyncio

from router import clock
from router.core.admission import WaitQueue
from router.core.course import Course
from router.core.decisions import Wait
from router.core.types import Rng
from router.errors import RouterError
from router.telemetry.journal import Record
from router.wire.flow import Signal


class Place(Signal[bool]):
    """True: a place may be free, ask the course again. False: the time for waiting is over."""

    __slots__ = ("course",)

    def __init__(self, course: Course) -> None:
        super().__init__()
        self.course = course


class WaitingRoom:
    """Lets requests wait, and wakes as many as there are places."""

    def __init__(self, queue: WaitQueue[Place], rng: Rng, loop: asyncio.AbstractEventLoop) -> None:
        self._queue = queue
        self._rng = rng
        self._loop = loop

    def __len__(self) -> int:
        return len(self._queue)

    async def wait(self, course: Course, decision: Wait, record: Record) -> None:
        """Wait until a place may be free, and note the time in the record. Raises RouterError (admission_full,
        wait_expired)."""
        began_s = clock.monotonic_s()
        place = Place(course)
        if not self._queue.push(course.request, began_s, place, kind=course.kind, until_s=decision.until_s):
            raise RouterError("admission_full", retry_after_s=self._queue.expected_wait_s(began_s), should_retry=True)
        try:
            free = await place
        finally:
            record.wait_s += clock.monotonic_s() - began_s
            self._queue.remove(place)
        if not free:
            again_s = self._queue.expected_wait_s(clock.monotonic_s())
            raise RouterError("wait_expired", retry_after_s=again_s, should_retry=True)

    def offer_soon(self) -> None:
        """An attempt has ended: offer its place once the loop is back from it."""
        if len(self._queue):
            self._loop.call_soon(self.offer)

    def offer(self) -> None:
        """Let those who wait try again, as many as there are places, and end the waits that are over."""
        now_s = clock.monotonic_s()
        for place in self._queue.expire(now_s):
            place.set(False)
        for _ in range(len(self._queue)):
            free = self._queue.pop(now_s, lambda place: place.course.fits(now_s, self._rng))
            if free is None:
                return
            free.set(True)  # the request decides, and takes its place, before this returns
