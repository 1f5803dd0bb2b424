"""Background tasks that have a name, are not garbage collected early, and do not fail in silence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

_log = logging.getLogger("router.tasks")
_running: set[asyncio.Task[Any]] = set()

T = TypeVar("T")


def spawn(coro: Coroutine[Any, Any, T], *, name: str, expected: tuple[type[Exception], ...] = ()) -> asyncio.Task[T]:
    """Start ``coro`` on the running loop. A failure that is not ``expected`` is logged with the task's name."""
    task = asyncio.get_running_loop().create_task(coro, name=name)
    _running.add(task)
    task.add_done_callback(partial(_finished, expected))
    return task


def _finished(expected: tuple[type[Exception], ...], task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (exc := task.exception()) is not None and not isinstance(exc, expected):
        _log.error("task %s failed", task.get_name(), exc_info=exc)


async def stop(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until each has ended."""
    alive = {t for t in tasks if t is not None and not t.done()}
    while alive:
        for task in alive:
            task.cancel()
        # A library can lose a cancellation that meets a time-out or an answer in the same turn: ask again.
        _, alive = await asyncio.wait(alive, timeout=0.5)
