"""Standard input, output and error, where a process was started without one of them."""

from __future__ import annotations

import os
import sys


def keep_open() -> None:
    """Give each that is closed the null device. Else its number would go to the next file or socket that is opened,
    and lines of the log into that."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            other = os.open(os.devnull, os.O_RDWR)
            if other != fd:
                os.dup2(other, fd)
                os.close(other)
    # Python has None for a stream that was closed at its start.
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
