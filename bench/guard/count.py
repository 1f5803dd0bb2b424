"""Runs the router and counts the instructions its own code executes: the same on a busy and on a quiet machine.

count.py SOCKET CONFIG: whoever connects to the unix socket is told the count so far. Libraries and C code (parsers,
JSON, system calls, garbage collection) are not in it: the guard's CPU ratio is there for them.
"""

from __future__ import annotations

import os
import runpy
import socket
import sys
import threading
from types import FrameType
from typing import Any

OWN = f"{os.sep}router{os.sep}"
APART = f"{OWN}observe{os.sep}"  # probes and scrapes go by the clock, not by the request
count = 0


def on_call(frame: FrameType, event: str, arg: Any) -> Any:
    file = frame.f_code.co_filename
    if OWN not in file or APART in file:
        return None
    frame.f_trace_lines = False
    frame.f_trace_opcodes = True
    return on_instruction


def on_instruction(frame: FrameType, event: str, arg: Any) -> Any:
    global count
    if event == "opcode":
        count += 1
    return on_instruction


def tell(listener: socket.socket) -> None:
    while True:
        asker, _ = listener.accept()
        with asker:
            asker.sendall(str(count).encode())


def main() -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    threading.Thread(target=tell, args=(listener,), daemon=True).start()
    sys.argv = ["router", *sys.argv[2:]]
    sys.settrace(on_call)
    runpy.run_module("router", run_name="__main__")


main()
