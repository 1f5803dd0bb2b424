"""Runs the router and counts the instructions its own code executes: the same on a busy and on a quiet machine.

count.py SOCKET CONFIG: whoever connects to the unix socket is told the count so far of every function, as JSON.
Libraries and C code (parsers, JSON, system calls, garbage collection) are not in it: the guard's CPU ratio is there for
them.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import sys
import threading
from types import CodeType, FrameType
from typing import Any

OWN = f"{os.sep}router{os.sep}"
APART = f"{OWN}observe{os.sep}"  # probes and scrapes go by the clock, not by the request

counts: dict[CodeType, int] = {}


def on_call(frame: FrameType, event: str, arg: Any) -> Any:
    code = frame.f_code
    if code not in counts:
        if OWN not in code.co_filename or APART in code.co_filename:
            return None
        counts[code] = 0
    frame.f_trace_lines = False
    frame.f_trace_opcodes = True
    return on_instruction


def on_instruction(frame: FrameType, event: str, arg: Any) -> Any:
    if event == "opcode":
        counts[frame.f_code] += 1
    return on_instruction


def tell(listener: socket.socket) -> None:
    while True:
        asker, _ = listener.accept()
        by_function: dict[str, int] = {}
        for code, count in list(counts.items()):
            name = f"{code.co_filename.rpartition(OWN)[2]}:{code.co_name}"
            by_function[name] = by_function.get(name, 0) + count
        with asker:
            asker.sendall(json.dumps(by_function).encode())


def main() -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    threading.Thread(target=tell, args=(listener,), daemon=True).start()
    sys.argv = ["router", *sys.argv[2:]]
    sys.settrace(on_call)
    runpy.run_module("router", run_name="__main__")


main()
