"""Memory that the workers share: how many clients each has, so that new ones go to those that have few."""

from __future__ import annotations

import mmap
import os
import tempfile

_SLOT_BYTES = 8
#: Stands in the slot of a worker that takes no clients.
_AWAY = 2**62


class Board:
    """One slot per worker. Every worker writes its own; the parent writes those of workers that have died."""

    def __init__(self, fd: int, seats: int) -> None:
        """Maps the file ``fd``, which must be ``seats`` slots long; the descriptor can be closed afterwards."""
        self._map = mmap.mmap(fd, seats * _SLOT_BYTES)
        self._slots = memoryview(self._map).cast("q")

    def write(self, worker: int, clients: int) -> None:
        self._slots[worker] = clients

    def leave(self, worker: int) -> None:
        """The worker takes no clients."""
        self._slots[worker] = _AWAY

    def fewest(self, *, but: int) -> int:
        """The lowest number of clients of any worker except ``but``; a very high number when there is no other."""
        return min((n for worker, n in enumerate(self._slots) if worker != but), default=_AWAY)

    def close(self) -> None:
        self._slots.release()
        self._map.close()


def new_board_file(seats: int) -> int:
    """A file descriptor for a Board whose workers are all away. The file is gone when the processes end."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("workers")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, seats * _SLOT_BYTES)
    board = Board(fd, seats)
    for worker in range(seats):
        board.leave(worker)
    board.close()
    return fd
