"""The bulk of the load: the load generator and the engines of bench/, in C, beside the churn.

The engines are well; what fails is what ``churn.harm`` does to the attempts at them, and none of that may be seen. So
every answer must be right to the byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

from bench import measure, processes
from bench.peers.base import MODEL
from tests.support.router import Site

#: The router gives a new connection 8 s for its first request. One may come in the moment in which that is over.
IDLE = "--stale-s=7.5"
#: All connections are there from the start: that more are needed at a peak after ten minutes is no leak.
WHOLE = ("--dial", "--connections=48", "--prompt-bytes=2000", "--reuse=200", IDLE)
STREAMS = (
    "--dial",
    "--stream",
    "--connections=256",
    "--prompt-bytes=3000",
    "--interval-us=20000",
    "--reuse=50",
    "--leave=20",
    IDLE,
)


#: More at once than the run itself ever has.
PEAK = ("--mode=closed", "--stream", "--connections=600", "--prompt-bytes=3000")
PEAK_S = 20.0


@contextlib.contextmanager
def engines(count: int) -> Iterator[list[Site]]:
    """So many backends, dealt out to two regions."""
    process, ports = measure.start_backend(count, frozenset(os.sched_getaffinity(0)))
    try:
        yield [
            Site(
                ("north", "south")[n % 2],
                f"c{n}",
                f"http://127.0.0.1:{port}",
                models=[MODEL],
                extra="max_inflight = 999",
            )
            for n, port in enumerate(ports)
        ]
    finally:
        processes.end(process)


class Load:
    """A load generator at work for some seconds."""

    def __init__(self, port: int, key: str, rate_hz: float, seconds: float, arguments: tuple[str, ...]) -> None:
        self._seconds = seconds
        run = ("--mode=open", f"--rate={rate_hz}", f"--seconds={seconds}", "--timeout-s=20")
        command = [measure.load_program(), f"--port={port}", f"--header=authorization: Bearer {key}", *run, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)

    def result(self) -> dict[str, Any]:
        """What it saw, once it has ended."""
        processes.expect(self._process, "start", 10)
        processes.expect(self._process, "stop", self._seconds + 30)
        said = json.loads(processes.read_line(self._process, 30))
        return {name: said[name] for name in ("requests", "events", "connects", "left", "stale", "errors", "sample")}

    def end(self) -> None:
        processes.end(self._process)
