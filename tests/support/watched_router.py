"""The router, and a unix socket beside its configuration that tells what it holds: for tests that look for leaks.

Run as ``python -m tests.support.watched_router regions.toml``. Each connection to ``regions.toml.watch`` gets one JSON
object, type name -> living instances: of the types in WATCHED, of tasks, and of leases, which only the fleet knows of
because the garbage collector does not look at them. ``Cyclic`` are those that were left to the garbage collector.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import threading
from collections import Counter
from pathlib import Path

from router.config import load
from router.core.fleet import Fleet
from router.gateway.exchange import Exchange
from router.gateway.relay import Relay
from router.wire.flow import Flow
from router.wire.inbound import Inbound
from router.wire.outbound import Outbound
from router.workers.run import run

WATCHED = (Exchange, Flow, Inbound, Outbound, Relay)


def _census() -> dict[str, int]:
    gc.unfreeze()  # what was there at the start counts, too
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    cyclic = sum(type(thing) in WATCHED for thing in gc.garbage)
    gc.set_debug(0)
    gc.garbage.clear()
    gc.collect()
    found: Counter[str] = Counter({kind.__name__: 0 for kind in WATCHED} | {"Task": 0, "Lease": 0})
    for thing in gc.get_objects():
        kind = type(thing)
        if kind in WATCHED:
            found[kind.__name__] += 1
        elif isinstance(thing, asyncio.Task) and not thing.done():
            found["Task"] += 1
        elif kind is Fleet:
            found["Lease"] += len(thing.leases)
    gc.freeze()
    found["Cyclic"] = cyclic
    return dict(found)


def _answer(listener: socket.socket) -> None:
    while True:
        client, _ = listener.accept()
        with client:
            client.sendall(json.dumps(_census()).encode())


def census(file: Path) -> dict[str, int]:
    """Ask the router that runs with this configuration file."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(f"{file}.watch")
        data = b""
        while more := client.recv(65536):
            data += more
    return dict(json.loads(data))


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def main() -> int:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{sys.argv[1]}.watch")
        listener.listen()
        threading.Thread(target=_answer, args=(listener,), daemon=True).start()
        return run(load(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
