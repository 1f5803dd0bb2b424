"""Accepts clients from the socket that all workers share, so that each worker has about the same number.

All workers wake for a new client and one gets it. A worker with more clients than the others leaves new ones to them
for a moment; if the clients still wait then, the others are busy, and it accepts them itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from router.wire.acceptor import Acceptor, Room
from router.workers.board import Board

#: How many clients a worker may be ahead of the one with the fewest.
AHEAD_MAX = 1
YIELD_S = 0.005
#: Clients accepted in one go by a worker that has yielded in vain …
BATCH = 2
#: … and by one that has yielded in vain for HANGS_S: by then the others hang, and do not just wait for the processor.
BATCH_ALONE = 256
HANGS_S = 0.1
#: The board is also written when clients have left.
_NOTE_S = 0.1


class FairAcceptor(Acceptor):
    """``clients`` says how many clients this worker has."""

    def __init__(
        self,
        listener: socket.socket,
        room: Room,
        board: Board,
        worker: int,
        *,
        adopt: Callable[[socket.socket], Awaitable[None]],
        clients: Callable[[], int],
    ) -> None:
        super().__init__(listener, room, adopt=adopt)
        self._board = board
        self._worker = worker
        self._clients = clients
        self._noting: asyncio.TimerHandle | None = None
        self._yielded = False
        self._in_vain = 0  # times in a row

    def start(self) -> None:
        self._note_regularly()
        super().start()

    def close(self) -> None:
        if self._noting is not None:
            self._noting.cancel()
        super().close()
        self._board.leave(self._worker)

    @property
    def _mine(self) -> int:
        return self._clients() + self.arriving

    def _ready(self) -> None:
        """Clients wait. Accept one at a time, so that other workers can accept in between."""
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

    def _taken(self) -> None:
        self._board.write(self._worker, self._mine)

    def _note_regularly(self) -> None:
        self._board.write(self._worker, self._mine)
        self._noting = self._loop.call_later(_NOTE_S, self._note_regularly)
