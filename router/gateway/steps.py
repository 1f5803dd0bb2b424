"""Work over a body, in steps: a small body is read at once, a long one by turns with everything else on the loop.

Whatever walks over a body is a generator. It yields how many bytes it has handled since it last did, never more than a
millisecond or two of work, and returns what it has found. A body up to LONG_BODY_BYTES is read by ``finish``, at once.
Longer ones are read by ``Turns``: one step of one body, then whatever else the loop has to do, then the next body. So
many long bodies at once pause the loop no longer than one does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from typing import Any, TypeVar

from router.wire.flow import Signal

T = TypeVar("T")
Steps = Generator[int, None, T]
Body = bytes | bytearray

#: A body longer than this is read in steps.
LONG_BODY_BYTES = 256 * 1024
#: What one step handles at most: of JSON with its brackets and strings, and of bytes in which only one is searched.
STEP_BYTES = 32 * 1024
LEAP_BYTES = 1024 * 1024


def finish(steps: Steps[T]) -> T:
    """All of it, now."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


class Turns:
    """Reads long bodies, one step of one of them in each turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: deque[_Job] = deque()

    def __len__(self) -> int:
        """How many bodies are being read."""
        return len(self._jobs)

    async def read(self, steps: Steps[T]) -> T:
        """What the steps return or raise. Whoever waits may leave: then the rest is not done."""
        job = _Job(steps)
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._loop.call_soon(self._turn)
        try:
            await job.done
        finally:
            job.left = True
        result: T = job.taken()
        return result

    def _turn(self) -> None:
        job = self._jobs.popleft()
        ended = job.left or job.step()
        if not ended:
            self._jobs.append(job)
        if self._jobs:
            self._loop.call_soon(self._turn)
        if ended:
            job.done.set(None)  # the request runs on from here


class _Job:
    __slots__ = ("_steps", "done", "error", "left", "result")

    def __init__(self, steps: Steps[Any]) -> None:
        self._steps = steps
        self.done: Signal[None] = Signal()
        self.result: Any = None
        self.error: Exception | None = None
        self.left = False

    def taken(self) -> Any:
        """What was found, or what was raised: once, because what is raised knows those who know this job."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error
        return self.result

    def step(self) -> bool:
        """Whether it was the last one."""
        try:
            next(self._steps)
        except StopIteration as end:
            self.result = end.value
        except Exception as error:
            self.error = error
        else:
            return False
        return True
