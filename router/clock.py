"""Time for the shell. The core never reads a clock: it is told."""

from __future__ import annotations

import time

#: Seconds that never go back; the ``now_s`` of everything in this process.
monotonic_s = time.monotonic

#: Seconds since 1970, for what people and other processes read.
wall_s = time.time
