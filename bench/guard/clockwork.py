"""An event loop whose time does not pass while it works: it jumps to the next timer when nothing is left to do.

So everything happens at the same moments in every run. There are no sockets: the loop raises an error where it would
wait for one.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Sequence

#: Anything but 0, which some code takes for "never".
_BEGIN_S = 1_000.0
#: 2026-01-01T00:00:00Z at the beginning
_EPOCH_S = 1_767_225_600.0 - _BEGIN_S


class Clockwork(asyncio.SelectorEventLoop):
    """``time`` is the loop's clock, ``wall_s`` the same in seconds since 1970."""

    def __init__(self) -> None:
        self._now_s = _BEGIN_S
        super().__init__(_Jumps(self))

    def time(self) -> float:
        return self._now_s

    def wall_s(self) -> float:
        return _EPOCH_S + self._now_s

    def jump(self, seconds: float) -> None:
        self._now_s += seconds


class _Jumps(selectors.SelectSelector):
    """Instead of waiting for a socket it lets the time pass."""

    def __init__(self, loop: Clockwork) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Sequence[tuple[selectors.SelectorKey, int]]:  # type: ignore[override]
        if timeout is None:
            raise RuntimeError("nothing is left that could ever happen")
        self._loop.jump(timeout)
        return []
