"""Drives a request: a coroutine that is resumed directly by the event it waits for.

A task would cost two turns of the event loop per wait and about as much CPU as parsing the request. A Flow steps its
coroutine directly: ``Signal.set`` runs it on to its next wait before it returns. Futures and tasks can be awaited as
usual; what needs ``asyncio.current_task()`` (time-outs, most libraries) must run in a task that the flow awaits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger("router.flow")


class Signal(Generic[T]):
    """A value that is set once and awaited by at most one flow. Later values are ignored: the first event wins."""

    __slots__ = ("_flow", "_value", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._value: T
        self._flow: Flow | None = None

    def set(self, value: T) -> None:
        """Set the value. The waiting flow runs to its next wait or its end before this returns."""
        if self.is_set:
            return
        self.is_set = True
        self._value = value
        flow = self._flow
        if flow is not None:
            self._flow = None
            flow.step()

    def __await__(self) -> Generator[Any, None, T]:
        if not self.is_set:
            if self._flow is not None:
                raise RuntimeError("a signal has one waiter")
            yield self
        return self._value


class Flow:
    """Runs one coroutine. ``throw`` is how the outside world ends it early."""

    __slots__ = ("_coro", "_waiting", "done")

    def __init__(self, coro: Coroutine[Any, Any, None]) -> None:
        self._coro = coro
        self._waiting: Signal[Any] | asyncio.Future[Any] | None = None
        self.done = False

    def throw(self, exc: BaseException) -> None:
        """Raise ``exc`` where the coroutine waits. A flow that is done or running is left alone."""
        waiting = self._waiting
        if self.done or waiting is None:
            return
        if isinstance(waiting, Signal):
            waiting._flow = None
        else:
            waiting.remove_done_callback(self._wake)
        self.step(exc)

    def step(self, exc: BaseException | None = None) -> None:
        """Run to the next wait, or to the end. The first step starts the flow; signals and futures make the others."""
        self._waiting = None
        try:
            waiting = self._coro.send(None) if exc is None else self._coro.throw(exc)
        except StopIteration:
            self.done = True
        except BaseException as error:
            self.done = True
            if not isinstance(error, Exception):
                raise
            _log.exception("a flow failed")
        else:
            self._waiting = waiting
            if isinstance(waiting, Signal):
                waiting._flow = self
            else:
                waiting._asyncio_future_blocking = False
                waiting.add_done_callback(self._wake)

    def _wake(self, future: asyncio.Future[Any]) -> None:
        if future is self._waiting:  # not if the flow left this wait by an exception while its wake-up was on the way
            self.step()
