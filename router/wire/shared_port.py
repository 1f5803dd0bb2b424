"""A port that two routers listen on while one takes over from the other (SO_REUSEPORT).

Linux deals new clients out by hash to all sockets on the port, and resets those that wait at one that closes, or whose
handshake is under way there. So clients are steered to the newest router from the moment that it takes any, and when
the one before it closes, nobody has come to it for a while. Where steering is not to be had, the hash decides, and a
router that stops takes those who wait.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
from pathlib import Path

#: From asm-generic/socket.h; Python does not name it.
_SO_ATTACH_REUSEPORT_CBPF = 51
#: BPF_RET | BPF_K: a classic BPF program of this one instruction answers with its constant.
_RETURN = 0x06
_LISTENING = "0A"


def share(listener: socket.socket) -> None:
    """Let other routers of the same user listen on its port too. Before it is bound. Raises OSError."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def is_shared(listener: socket.socket) -> bool:
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


class Turn:
    """The place of one listening socket among those on its port. Make it when the socket has begun to listen: from
    then on new clients come here."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._own = os.fstat(listener.fileno()).st_ino
        self._before = self._others()
        if self._before:
            self._steer(len(self._before))  # the last that came has the highest number

    def pass_on(self) -> bool:
        """This router stops: from now on new clients go to another one. Returns whether there is any."""
        others = self._others()
        if others and others <= self._before:  # the one before takes over again; a later one has them already
            self._steer(0)
        return bool(others)

    def _others(self) -> set[int]:
        """The other sockets that listen at the same address."""
        for table in ("tcp", "tcp6"):
            try:
                lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            except OSError:
                continue
            rows = [row for line in lines if len(row := line.split()) > 9 and row[3] == _LISTENING]
            address = next((row[1] for row in rows if int(row[9]) == self._own), None)
            if address is not None:
                return {int(row[9]) for row in rows if row[1] == address} - {self._own}
        return set()

    def _steer(self, to: int) -> None:
        if sys.platform != "linux":
            return
        program = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, to))
        with contextlib.suppress(OSError):  # then the hash goes on deciding
            self._listener.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("HP", 1, ctypes.addressof(program))
            )
