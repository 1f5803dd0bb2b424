"""Counts the instructions that the router's own code executes, per request and per streamed chunk.

    count.py [SECONDS]

A whole router without sockets serves the same requests at the same moments in every run (see ``play``). So the counts
are the same, too, to the digit, on any machine and however busy it is. They are printed as JSON, by scenario and
function. Libraries and C code (parsers, JSON, system calls, garbage collection) are not in them: the guard's CPU ratio
is there for them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from types import CodeType, FrameType
from typing import Any

from bench.guard.clockwork import Clockwork
from bench.guard.play import begin
from bench.guard.rig import SCENARIOS
from bench.scenarios import Scenario

OWN = f"{os.sep}router{os.sep}"
#: Until the fits, the purses and the caches are as they stay.
WARM_S = 2.0
#: Work that time drives comes once a second at the least: chunks share it, and requests hardly notice.
COUNTED_S = {"request": 0.25, "chunk": 1.0}


class Counter:
    """Counts by code object while it is on."""

    def __init__(self) -> None:
        self._counts: dict[CodeType, int] = {}

    def on(self) -> None:
        counts = self._counts

        def on_call(frame: FrameType, event: str, arg: Any) -> Any:
            code = frame.f_code
            if code not in counts:
                if OWN not in code.co_filename:
                    return None
                counts[code] = 0
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
            return on_instruction

        def on_instruction(frame: FrameType, event: str, arg: Any) -> Any:
            if event == "opcode":
                counts[frame.f_code] += 1
            return on_instruction

        sys.settrace(on_call)

    def off(self) -> dict[str, int]:
        sys.settrace(None)
        by_function: dict[str, int] = {}
        for code, count in self._counts.items():
            name = f"{code.co_filename.rpartition(OWN)[2]}:{code.co_name}"
            by_function[name] = by_function.get(name, 0) + count
        return by_function


async def counted(loop: Clockwork, scenario: Scenario, seconds: float) -> dict[str, float]:
    """Instructions per request or chunk, by function."""
    load = await begin(loop, scenario)
    await asyncio.sleep(WARM_S)
    before, counter = load.done, Counter()
    counter.on()
    await asyncio.sleep(seconds)
    by_function = counter.off()
    done = load.done - before
    if not done:
        raise RuntimeError("nothing was answered")
    return {name: count / done for name, count in by_function.items()}


def main() -> None:
    found = {}
    for scenario in SCENARIOS:
        seconds = float(sys.argv[1]) if len(sys.argv) > 1 else COUNTED_S[scenario.unit]
        loop = Clockwork()
        asyncio.set_event_loop(loop)
        found[scenario.name] = loop.run_until_complete(counted(loop, scenario, seconds))
    print(json.dumps(found))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
