"""The sockets that clients and operators come to: bound here, or handed down by the service manager."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, replace

from router.config import Config, exposed, split_address
from router.errors import ConfigError
from router.systemd import HandedDown, handed_down
from router.wire.shared_port import share
from router.wire.sockets import BACKLOG, tune
from router.words import plural

#: The names that handed down sockets may have; without names they come in this order.
NAMES = ("clients", "admin")


class ListenError(Exception):
    """An address cannot be listened on. The text says which, why, and what to change."""


@dataclass(slots=True)
class Listeners:
    """The sockets of a process, taken before anything else so that a port in use costs nothing.

    ``handed_down``: they were open before this process, or one of them was, and somebody else says where.
    """

    clients: socket.socket
    admin: socket.socket
    handed_down: bool = False

    def close(self) -> None:
        self.clients.close()
        self.admin.close()

    @classmethod
    def open(cls, config: Config, environ: MutableMapping[str, str]) -> Listeners:
        """Those that were handed down; the others are bound. Raises ListenError."""
        found = _by_name(handed_down(environ))
        taken: list[socket.socket] = []
        try:
            for name in NAMES:
                fd = found.get(name)
                taken.append(_bound(config, name) if fd is None else _adopted(name, fd))
        except ListenError:
            for listener in taken:
                listener.close()
            raise
        clients, admin = taken
        return cls(clients, admin, handed_down=bool(found))

    def in_force(self, config: Config) -> Config:
        """``config`` with the addresses that are really listened on. Raises ConfigError if it is too open for them."""
        if not self.handed_down:
            return config
        clients, admin = address_of(self.clients), address_of(self.admin)
        actual = replace(config, router=replace(config.router, listen=clients, admin=admin))
        if problems := [f"{config.source}: {problem}" for problem in exposed(actual)]:
            raise ConfigError(config.source, problems)
        return actual


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _by_name(found: list[HandedDown]) -> dict[str, int]:
    """The descriptors of the two listeners. Raises ListenError."""
    if len(found) > len(NAMES):
        raise ListenError(f"{plural(len(found), 'socket')} were handed down, and there are two listeners.")
    if any(entry.name in NAMES for entry in found):
        named = {entry.name: entry.fd for entry in found}
        if strange := [entry.name for entry in found if entry.name not in NAMES]:
            raise ListenError(f'a socket named "{strange[0]}" was handed down; names are {" and ".join(NAMES)}.')
        if len(named) < len(found):
            raise ListenError(f"two sockets named {found[0].name} were handed down.")
        return named
    return {name: entry.fd for name, entry in zip(NAMES, found, strict=False)}


def _adopted(name: str, fd: int) -> socket.socket:
    """A socket that somebody else listens with, too. Raises ListenError."""
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise ListenError(f"descriptor {fd} was handed down for {name}: {error.strerror}.") from None
    good = listener.family in (socket.AF_INET, socket.AF_INET6) and listener.type == socket.SOCK_STREAM
    if not good or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.detach()
        raise ListenError(f"descriptor {fd} was handed down for {name}: it is not a TCP socket that listens.")
    os.set_inheritable(fd, False)
    tune(listener)
    listener.setblocking(False)
    return listener


def _bound(config: Config, name: str) -> socket.socket:
    """A socket of our own. One on a shared port begins to listen when it takes clients: until then the router before
    has them. Raises ListenError."""
    key = "listen" if name == "clients" else "admin"
    address, shared = getattr(config.router, key), config.router.share_port
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tune(listener)
        if shared:
            share(listener)
        listener.bind((host, port))
        if not shared:
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = "is in use by another process" if error.errno == errno.EADDRINUSE else error.strerror
        raise ListenError(f"{address} {reason}. Change it with [router] {key}, or --{key}.") from None
    listener.setblocking(False)
    return listener
