"""Free ports for servers that a test starts, from a range of its own for each of the processes that run tests.

A port that the system names (bind to port 0) may be taken by an outgoing connection of another process before the
server binds it. These lie below the ports that Linux and macOS give to outgoing connections.
"""

from __future__ import annotations

import itertools
import os
import random
import socket

_FIRST, _LAST = 15_000, 32_000
_PER_WORKER = 1_000
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_low = _FIRST + _worker * _PER_WORKER % (_LAST - _FIRST)
#: from a place by chance on: another run of the tests on this machine may have the same range
_offsets = itertools.count(random.randrange(_PER_WORKER))


def free_port() -> int:
    for _ in range(_PER_WORKER):
        port = _low + next(_offsets) % _PER_WORKER
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port from {_low} to {_low + _PER_WORKER - 1} is free")
