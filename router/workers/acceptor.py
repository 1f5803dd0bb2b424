"""Takes clients from the socket that all workers share, so that each has about as many.

All workers wake for a new client and one gets it. A worker that is ahead of the others leaves new clients to them for a
moment; if they are still there after it, the others are busy, and it takes them after all.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable

from router.tasks import spawn
from router.workers.board import Board

_log = logging.getLogger("router.workers")

#: How many clients a worker may be ahead of the one with the fewest.
AHEAD_MAX = 1
YIELD_S = 0.005
#: Clients taken in one go by a worker that has yielded in vain …
BATCH = 2
#: … and by one that has done so for HANGS_S: the others do not just wait for their turn of the processor.
BATCH_ALONE = 256
HANGS_S = 0.1
#: The board is also written when clients have left.
_NOTE_S = 0.1
#: When the process or the machine is out of file descriptors or memory.
_PAUSE_S = 1.0
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """``adopt`` serves an accepted client; ``clients`` says how many there are."""

    def __init__(
        self,
        listener: socket.socket,
        board: Board,
        worker: int,
        *,
        adopt: Callable[[socket.socket], Awaitable[None]],
        clients: Callable[[], int],
    ) -> None:
        self._listener = listener
        self._board = board
        self._worker = worker
        self._adopt = adopt
        self._clients = clients
        self._arriving = 0  # accepted, not yet among the clients
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._noting: asyncio.TimerHandle | None = None
        self._yielded = False
        self._in_vain = 0  # times in a row
        self._closed = False

    def start(self) -> None:
        self._note_regularly()
        self._loop.add_reader(self._listener, self._ready)

    def close(self) -> None:
        """Take no more clients and close this process's copy of the socket."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._timer, self._noting):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._listener)
        self._board.leave(self._worker)
        self._listener.close()

    @property
    def _mine(self) -> int:
        return self._clients() + self._arriving

    def _ready(self) -> None:
        """There are clients to take. One at a time: between two, others may take theirs."""
        ahead = self._mine - self._board.fewest(but=self._worker)
        if ahead > AHEAD_MAX and not self._yielded:
            self._yielded = True
            self._rest(YIELD_S)
            return
        batch = 1
        if self._yielded:
            batch = BATCH_ALONE if self._in_vain * YIELD_S > HANGS_S else BATCH
        taken = 0
        while taken < batch and self._take():
            taken += 1
        self._in_vain = self._in_vain + 1 if self._yielded and taken == batch else 0
        self._yielded = False

    def _take(self) -> bool:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno in _SHORT:
                _log.warning("no client can be taken for a moment: %s", error.strerror)
                self._rest(_PAUSE_S)
            return False
        client.setblocking(False)
        self._arriving += 1
        self._board.write(self._worker, self._mine)
        spawn(self._welcome(client), name="client arrives", expected=(OSError,))
        return True

    async def _welcome(self, client: socket.socket) -> None:
        try:
            await self._adopt(client)
        except BaseException:
            client.close()
            raise
        finally:
            self._arriving -= 1

    def _rest(self, seconds: float) -> None:
        """Leave the clients that wait to others for a while."""
        self._loop.remove_reader(self._listener)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._timer = None
        self._loop.add_reader(self._listener, self._ready)

    def _note_regularly(self) -> None:
        self._board.write(self._worker, self._mine)
        self._noting = self._loop.call_later(_NOTE_S, self._note_regularly)
