"""Options of every TCP socket of the router, queries of its queues, and the errors that mean a shortage of ours."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import socket
import struct
import termios
from array import array

#: A silent connection is probed after this long, before gateways on the way forget it (AWS NLB 350 s, Azure 240 s): an
#: answer that takes minutes arrives, and a dead peer is noticed.
KEEPALIVE_IDLE_S = 60
KEEPALIVE_INTERVAL_S = 15
KEEPALIVE_PROBES = 4
#: Clients that may wait in the system's queue until they are accepted.
BACKLOG = 4096

#: This process or machine has run out of something: descriptors, memory, local ports. Never the fault of the peer.
SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


def tune(sock: socket.socket) -> None:
    """Keepalive, and no delay of small writes. The connections accepted by a listener inherit both from it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)  # macOS has the second
    if idle is not None:
        sock.setsockopt(socket.IPPROTO_TCP, idle, KEEPALIVE_IDLE_S)
    for name, value in (("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S), ("TCP_KEEPCNT", KEEPALIVE_PROBES)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def tuned(family: int, kind: int, protocol: int) -> socket.socket:
    """A socket to connect with that is tuned."""
    made = socket.socket(family, kind, protocol)
    tune(made)
    return made


def forget_unsent(fd: int) -> None:
    """Have the close of this connection send a reset and drop bytes that the peer has not read. Raises OSError."""
    sock = socket.socket(fileno=fd)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        sock.detach()


def unread_bytes(transport: asyncio.Transport) -> int:
    """Bytes that have arrived in the socket and were not read from it."""
    return _in_queue(transport, termios.FIONREAD)


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Bytes in the socket that the peer has not acknowledged."""
    return _in_queue(transport, termios.TIOCOUTQ)


def _in_queue(transport: asyncio.Transport, queue: int) -> int:
    size = array("i", [0])
    with contextlib.suppress(OSError, AttributeError):
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), queue, size)
    return size[0]
