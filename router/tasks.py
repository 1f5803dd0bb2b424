"""Background tasks that have a name, are not garbage collected early, and do not fail in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from router.complaint import Complaint

_log = logging.getLogger("router.tasks")
_running: set[asyncio.Task[Any]] = set()

#: Before a loop that failed is started again.
PAUSE_S = 0.5
PAUSE_S_MAX = 15.0
#: A loop that ran for this long is started again after the shortest pause.
STEADY_S = 60.0

T = TypeVar("T")


def spawn(coro: Coroutine[Any, Any, T], *, name: str, expected: tuple[type[Exception], ...] = ()) -> asyncio.Task[T]:
    """Start ``coro`` on the running loop. A failure that is not ``expected`` is logged with the task's name."""
    task = asyncio.get_running_loop().create_task(coro, name=name)
    _running.add(task)
    task.add_done_callback(partial(_finished, expected))
    return task


def _finished(expected: tuple[type[Exception], ...], task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled() or (exc := task.exception()) is None:
        return
    if not isinstance(exc, expected):
        _log.error("task %s failed", task.get_name(), exc_info=exc)
    elif exc.__suppress_context__:
        exc.__context__ = None  # a time-out knows the task that it ended, and the task knows what it raised


async def wait_for(task: asyncio.Future[T], otherwise: Callable[[asyncio.Future[T]], object] | None = None) -> T:
    """What ``task`` returns or raises. A flow that waits may be ended meanwhile: the task goes on, and ``otherwise`` is
    called with it when it is done.

    Call it with a task or future that you keep no name for: what a task raises knows the frames that it was raised
    through, and a frame that knows the task closes a reference cycle, which holds everything that those frames know.
    """
    try:
        return await task
    except BaseException:
        if otherwise is not None:
            task.add_done_callback(otherwise)
        raise
    finally:
        del task


def supervise(loop: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> asyncio.Task[None]:
    """Start a loop that should run until it is cancelled, and start it again when something unforeseen ends it.

    The pauses before a new start grow from PAUSE_S to PAUSE_S_MAX. A failure is logged with its traceback, the same
    one again ever more rarely. A cancellation that nobody asked for, as a library may leak one, is such a failure too.
    """
    return spawn(_kept_running(loop, name), name=name)


async def _kept_running(loop: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    now_s = asyncio.get_running_loop().time
    complaint = Complaint()
    pause_s = PAUSE_S
    while True:
        began_s = now_s()
        try:
            await loop()
            return
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            if complaint.worth_a_line(f"{type(error).__name__}: {error}", now_s()):
                _log.error("task %s failed; it is started again", name, exc_info=error)
        if now_s() - began_s >= STEADY_S:
            pause_s = PAUSE_S
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


async def stop(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until each has ended."""
    alive = {t for t in tasks if t is not None and not t.done()}
    while alive:
        for task in alive:
            task.cancel()
        # A library can lose a cancellation that meets a time-out or an answer in the same turn: ask again.
        _, alive = await asyncio.wait(alive, timeout=0.5)
