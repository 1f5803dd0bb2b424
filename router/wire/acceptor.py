"""Accepts clients from a listening socket, as long as there are descriptors for them and their requests.

A client that cannot be accepted waits in the system's queue, where it costs nothing; accepting goes on as soon as there
is room. (When descriptors are used up, libuv closes waiting clients, and asyncio spins.)
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from router.tasks import spawn
from router.wire.shared_port import Turn, is_shared
from router.wire.sockets import BACKLOG, SHORTAGE

_log = logging.getLogger("router.clients")

#: Most clients accepted in one turn of the loop.
BATCH = 64
#: Without room, the acceptor tries again after this long.
PAUSE_S = 0.1
#: The log says that there is no room at most once in this time.
_TOLD_S = 60.0


class Room(Protocol):
    """Knows how many clients there may be."""

    def has_room(self, arriving: int, fd: int) -> bool:
        """One more client may come in, beside the ``arriving`` that do not count as clients yet. ``fd``: the descriptor
        of the last one, or -1."""

    def make_room(self) -> None:
        """Clients wait outside: close connections that nobody needs."""


class Acceptor:
    """``adopt`` serves an accepted client."""

    def __init__(
        self, listener: socket.socket, room: Room, *, adopt: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        self._listener = listener
        self._room = room
        self._adopt = adopt
        self.arriving = 0  # accepted, not yet among the clients
        self._last_fd = -1
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._told_s = float("-inf")
        self._closed = False
        self._turn: Turn | None = None  # on a shared port

    def start(self) -> None:
        self._listener.listen(BACKLOG)  # also where somebody else began to
        if is_shared(self._listener):
            self._turn = Turn(self._listener)
        self._loop.add_reader(self._listener, self._ready)

    def pass_on(self) -> bool:
        """Have new clients go to the other router on a shared port, where there is one. Returns whether there is."""
        return self._turn is not None and self._turn.pass_on()

    def close(self) -> None:
        """Accept the clients that have connected already, then close this process's copy of the socket."""
        if self._closed:
            return
        while self._take():
            pass
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _ready(self) -> None:
        """The socket is readable: clients wait to be accepted."""
        for _ in range(BATCH):
            if not self._take():
                return

    def _take(self) -> bool:
        """Accept one client. False: nobody waits, or there is no room."""
        if not self._room.has_room(self.arriving, self._last_fd):
            self._pause("they or their requests would use up the file descriptors of this process (ulimit -n)")
            return False
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in SHORTAGE:
                raise
            self._pause(error.strerror or str(error))
            return False
        client.setblocking(False)
        self._last_fd = client.fileno()
        self.arriving += 1
        self._taken()
        spawn(self._welcome(client), name="client arrives", expected=(OSError,))
        return True

    def _taken(self) -> None:
        """One more is arriving."""

    async def _welcome(self, client: socket.socket) -> None:
        try:
            await self._adopt(client)
        except BaseException:
            client.close()
            raise
        finally:
            self.arriving -= 1

    def _pause(self, why: str) -> None:
        now_s = self._loop.time()
        if now_s - self._told_s > _TOLD_S:
            self._told_s = now_s
            _log.warning("clients have to wait until they are let in: %s", why)
        self._room.make_room()
        self._rest(PAUSE_S)

    def _rest(self, seconds: float) -> None:
        """Stop accepting for a while; clients wait in the system's queue."""
        if self._closed:
            return
        self._loop.remove_reader(self._listener)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._timer = None
        self._last_fd = -1
        if self._room.has_room(self.arriving, self._last_fd):
            self._loop.add_reader(self._listener, self._ready)
        else:
            self._room.make_room()
            self._rest(PAUSE_S)
