"""Signals of a process that runs a loop.

A loop's own handlers (``add_signal_handler``) end with the loop and leave the default action behind. For the rest of
the process one more signal would then make a clean end look like a crash to whoever started it. These handlers belong
to the process.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def on(*numbers: signal.Signals, act: Callable[[], object]) -> None:
    """Have the running loop call ``act`` for each of these signals. Only in the main thread."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(act))


def ignore(*numbers: signal.Signals) -> None:
    """From here to the exit these have nothing left to do."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
