"""The place of a request that waits until a backend can take it."""

from __future__ import annotations

from router.core.course import Course
from router.wire.flow import Signal


class Place(Signal[bool]):
    """True: a place may be free, ask the course again. False: the time for waiting is over."""

    __slots__ = ("course",)

    def __init__(self, course: Course) -> None:
        super().__init__()
        self.course = course
