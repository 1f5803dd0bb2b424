"""CPU time and memory of process trees, and of the whole machine, read from the kernel."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Machine:
    """Seconds of CPU since boot, summed over all cores."""

    busy_s: float
    stolen_s: float


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; the name before them may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """`root` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children.setdefault(int(_stat_fields(int(entry))[1]), []).append(int(entry))
            except OSError:
                continue
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(children.get(pid, ()))
    return found


def process_cpu_s(pid: int) -> float:
    """User + system seconds of a process, its threads (also those that ended) and the children it has reaped.

    The process's CPU clock counts nanoseconds where utime and stime of /proc/PID/stat count ticks of 10 ms. Its id is
    MAKE_PROCESS_CPUCLOCK of the kernel's posix-timers.h.
    """
    try:
        own_s = time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
        reaped = _stat_fields(pid)[13:15]
    except OSError:
        return 0.0
    return own_s + sum(int(ticks) for ticks in reaped) * TICK_S


def tree_cpu_s(roots: Iterable[int]) -> float:
    return sum(process_cpu_s(pid) for root in roots for pid in tree(root))


def tree_pss_bytes(roots: Iterable[int]) -> int:
    """Proportional set size: a page shared by n processes counts 1/n in each."""
    total = 0
    for root in roots:
        for pid in tree(root):
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def machine() -> Machine:
    """Guest time is part of user time and is not added again."""
    fields = [int(ticks) * TICK_S for ticks in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, stolen = fields
    return Machine(busy_s=user + nice + system + irq + softirq, stolen_s=stolen)


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine
