"""The router, and a unix socket beside its configuration that tells what it holds: for tests that look for leaks.

Run as ``python -m tests.support.watched_router regions.toml``. Each connection to ``regions.toml.watch`` sends one line
and gets one JSON object.

census   type name -> living instances: of the types in WATCHED, of tasks, and of leases, which only the fleet knows of
         because the garbage collector does not look at them. ``Cyclic`` are those that were left to the collector.
sizes    how full everything is that grows up to a limit, and what Python and malloc hold

With STATS_WINDOW_S in its environment the statistics remember that many seconds instead of 15 minutes, so that they are
full soon. PREFIX_BLOCKS is the most that an engine is taken to hold: what an index remembers is forgotten by the
quarter, which makes a saw of megabytes.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import socket
import sys
import threading
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from router.app import App
from router.config import load
from router.core.affinity import PrefixIndex
from router.core.fleet import Fleet
from router.core.params import Params
from router.gateway.exchange import Exchange
from router.gateway.relay import Relay
from router.telemetry import stats
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


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ["arena", "ord", "sm", "hblks", "hblkhd", "usm", "fsm", "uord", "ford", "keep"]
    ]


def _sizes(app: App) -> dict[str, int]:
    journal, pools = app.telemetry.journal, app._pools._pools.values()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    malloc = mallinfo()
    slots = [slot for _, slot in list(app.telemetry.stats._slots)]
    return {
        "journal records": len(journal._ring),
        "journal decisions": len(journal._decided),
        "journal blocks": sum(len(r.prefix_blocks) for r in list(journal._ring)),
        "stats slots": len(slots),
        "stats tallies": sum(map(len, slots)),
        "prefix blocks": sum(len(b.prefix) for b in list(app.fleet.backends.values())),
        "request heads": len(app.server.gate.reader._known),
        "answer heads": sum(len(p._heads._known) for p in pools),
        "clients": len(app.server.gate.connections),
        "connections": sum(len(p.open) for p in pools),
        "connections idle": sum(len(p._idle) for p in pools),
        "token habits": len(app.lifecycle.tokens._habits),
        "poison": len(app.lifecycle.poison._suspects),
        "python blocks": sys.getallocatedblocks(),
        "malloc used": malloc.uord + malloc.hblkhd,
        "malloc free": malloc.ford,
    }


def _answer(listener: socket.socket, running: Future[tuple[App, asyncio.AbstractEventLoop]]) -> None:
    app, loop = running.result()

    async def look(what: bytes) -> dict[str, int]:
        """On the router's loop, because looking must not meet it in the middle of a step.

        A tuple that is being built from a generator is known to the collector already, and CPython refuses to resize a
        tuple that somebody else holds (SystemError).
        """
        return _sizes(app) if what == b"sizes" else _census()

    while True:
        client, _ = listener.accept()
        with client:
            found = asyncio.run_coroutine_threadsafe(look(client.recv(16)), loop).result()
            client.sendall(json.dumps(found).encode())


def census(file: Path) -> dict[str, int]:
    """Ask the router that runs with this configuration file."""
    return _ask(file, b"census")


def sizes(file: Path) -> dict[str, int]:
    return _ask(file, b"sizes")


def _ask(file: Path, what: bytes) -> dict[str, int]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(f"{file}.watch")
        client.sendall(what)
        data = b""
        while more := client.recv(65536):
            data += more
    return dict(json.loads(data))


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _hold_few(most_blocks: int) -> None:
    """No index takes its engine to hold more, whether the engine tells how much it holds or not."""
    begin, resize = PrefixIndex.__init__, PrefixIndex.resize

    def small(index: PrefixIndex, params: Params) -> None:
        begin(index, params)
        resize(index, most_blocks)

    def capped(index: PrefixIndex, capacity_blocks: float) -> None:
        resize(index, min(capacity_blocks, most_blocks))

    PrefixIndex.__init__, PrefixIndex.resize = small, capped  # type: ignore[method-assign]


def _told_when_running() -> Future[tuple[App, asyncio.AbstractEventLoop]]:
    """The router of this process and its loop, as soon as there is one."""
    begin = App.__init__
    running: Future[tuple[App, asyncio.AbstractEventLoop]] = Future()

    def told(app: App, *args: Any, **named: Any) -> None:
        begin(app, *args, **named)
        running.set_result((app, asyncio.get_running_loop()))

    App.__init__ = told  # type: ignore[method-assign]
    return running


def main() -> int:
    stats.WINDOW_S_MAX = int(os.environ.get("STATS_WINDOW_S", stats.WINDOW_S_MAX))
    if (blocks := os.environ.get("PREFIX_BLOCKS")) is not None:
        _hold_few(int(blocks))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{sys.argv[1]}.watch")
        listener.listen()
        threading.Thread(target=_answer, args=(listener, _told_when_running()), daemon=True).start()
        return run(load(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
