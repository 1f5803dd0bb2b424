"""One worker: ``python -m router.workers``, started by ``parent.py`` only.

It writes ``ready`` to standard output once it serves. SIGTERM makes it drain, a second one ends its requests. It also
drains when its standard input ends: then the parent is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from router import signals, stdio
from router.app import App
from router.errors import ConfigError
from router.store.base import StoreError
from router.telemetry import logs
from router.telemetry.writer import LineWriter, StreamSink
from router.wire.listeners import Listeners
from router.workers.acceptor import FairAcceptor
from router.workers.board import Board
from router.workers.orders import Orders

_log = logging.getLogger("router.workers")

_PR_SET_PDEATHSIG = 1
#: Linux sends it once for each thread of the parent that dies, and the id of the parent stays until the last one. So it
#: must not be SIGTERM, of which a second one ends the requests.
_PARENT_GONE = signal.SIGUSR1
_END_S = 10


def _follow_the_parent() -> None:
    """Have Linux send a signal when the parent dies: a busy worker may see the end of its input late."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _PARENT_GONE)


async def _work(orders: Orders, listeners: Listeners, writer: LineWriter) -> None:
    parent, admin_path = os.getppid(), listeners.admin.getsockname()
    app = App(orders.config, listeners, access=writer, human=orders.human, worker=orders.worker)
    app.reloader.generation = app.telemetry.generation = orders.generation
    board = Board(orders.board_fd, orders.seats)
    os.close(orders.board_fd)
    app.server.acceptor = acceptor = FairAcceptor(
        listeners.clients,
        app.server,
        board,
        orders.worker,
        adopt=app.server.adopt,
        clients=lambda: len(app.server.gate.connections),
    )
    loop = asyncio.get_running_loop()
    signals.on(signal.SIGTERM, act=app.shut_down)
    signals.on(_PARENT_GONE, act=lambda: _left_alone(app))
    loop.add_reader(0, _parent_gone, app)
    try:
        await app.start()
        acceptor.start()
        with contextlib.suppress(BrokenPipeError):  # the parent is gone already; standard input has ended too
            os.write(1, b"ready\n")
        await app.stopping.wait()
    finally:
        await app.stop()
        acceptor.close()
        loop.remove_reader(0)
        board.close()
    signals.ignore(signal.SIGTERM, _PARENT_GONE)
    if os.getppid() != parent:
        _tidy_up(Path(admin_path))


def _tidy_up(path: Path) -> None:
    """Remove the files that the parent would have removed; the last worker removes the folder."""
    with contextlib.suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def _parent_gone(app: App) -> None:
    if os.read(0, 4096):
        return
    asyncio.get_running_loop().remove_reader(0)
    # Nobody else would end this process if the drain hangs.
    timeouts = app.reloader.config.timeouts
    signal.alarm(int(timeouts.lead + timeouts.drain) + _END_S)
    if not app.stopping.is_set():
        _log.error("the parent process is gone: this worker drains and ends")
        _left_alone(app)


def _left_alone(app: App) -> None:
    """Drain, and let the other routers know that nobody has told this one to."""
    if not app.stopping.is_set():
        app.control.chronicle.left_alone = app.control.attendance.missed = True
        app.stopping.set()


def main() -> int:
    # Ctrl-C and the end of a terminal reach all processes at once: the parent decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _follow_the_parent()
    stdio.keep_open()
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    orders = Orders.decode(line)
    writer = LineWriter(StreamSink(2), name="log", is_log=True)
    undo = logs.set_up(writer, human=orders.human)
    listeners = Listeners(socket.socket(fileno=orders.clients_fd), socket.socket(fileno=orders.admin_fd))
    try:
        uvloop.run(_work(orders, listeners, writer))
    except (StoreError, ConfigError) as error:
        _log.error("worker %d: %s", orders.worker, error)
        return 1
    finally:
        undo()
        writer.close()
        with contextlib.suppress(OSError):
            listeners.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
