"""Time limits that a busy machine cannot break: what is measured is the program, not how long it was kept waiting."""

from __future__ import annotations

import os
import time


class Stopwatch:
    """Counts from its making. ``elapsed_s`` leaves out the time for which a process that takes part was ready to run
    and another one had the processor, as the kernel tells it (Linux; elsewhere nothing is left out).

        watch = Stopwatch(router.process.pid)
        ...
        assert watch.elapsed_s < 0.5

    This process always takes part. What several waited at the same time is left out for each of them: a limit may be
    kept wrongly on a machine that is starved, and never broken wrongly.
    """

    def __init__(self, *pids: int) -> None:
        self._pids = (os.getpid(), *pids)
        self._kept_s = {pid: _kept_waiting_s(pid) for pid in self._pids}
        self._stolen_s = _stolen_s()
        self._began_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        passed_s = time.monotonic() - self._began_s
        kept_s = sum(max(0.0, _kept_waiting_s(pid) - before_s) for pid, before_s in self._kept_s.items())
        return max(0.0, passed_s - kept_s - (_stolen_s() - self._stolen_s))


def _kept_waiting_s(pid: int) -> float:
    """Seconds that the process's main thread has spent on a run queue."""
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _stolen_s() -> float:
    """Seconds that the machine itself was kept from running by the one it is a guest of."""
    try:
        with open("/proc/stat") as file:
            return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0
