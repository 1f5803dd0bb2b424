"""The time limit of a test (pytest-timeout) ends what its event loop waits for, too.

The limit is an exception, raised by a signal's handler. While the loop waits, that handler runs in a callback of the
loop, which logs what a callback raises and goes on: the test would never hear of it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from functools import partial
from types import FrameType
from typing import Any

import pytest
import uvloop


class Loop(uvloop.Loop):
    """A loop whose running test or fixture can be ended from a signal's handler."""

    _main: asyncio.Future[Any] | None = None
    _why: BaseException | None = None

    def run_until_complete(self, future: Awaitable[Any]) -> Any:
        self._main = asyncio.ensure_future(future, loop=self)
        try:
            return super().run_until_complete(self._main)
        except asyncio.CancelledError as cancelled:
            if self._why is None:
                raise
            raise self._why from cancelled
        finally:
            self._main = self._why = None

    def end_main(self, why: BaseException) -> None:
        """Cancel what runs, so that it tidies up, and have it fail with ``why``."""
        if self._main is None or asyncio.current_task(self) is self._main:
            raise why
        self._why = why
        self.call_soon_threadsafe(self._main.cancel)


def reach_loops() -> None:
    """Put it in front of the handler that pytest-timeout has just set."""
    limit_reached = signal.getsignal(signal.SIGALRM)
    if callable(limit_reached):
        signal.signal(signal.SIGALRM, partial(_tell_the_loop, limit_reached))


def _tell_the_loop(limit_reached: Any, number: int, frame: FrameType | None) -> None:
    try:
        limit_reached(number, frame)
    except pytest.fail.Exception as failure:
        loop = asyncio._get_running_loop()
        if not isinstance(loop, Loop):
            raise
        loop.end_main(failure)
