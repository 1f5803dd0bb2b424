"""The service manager that started this process: the sockets that it hands down, and what it wants to be told.

The protocol is systemd's (sd_listen_fds, sd_notify); others speak it too. Without its variables in the environment
nothing here does anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, MutableMapping
from typing import NamedTuple

from router import clock
from router.tasks import stop, supervise

_log = logging.getLogger("router")

#: The first descriptor that is handed down.
FIRST_FD = 3


class HandedDown(NamedTuple):
    """A descriptor that was handed down, and its name, which may be empty."""

    name: str
    fd: int


def handed_down(environ: MutableMapping[str, str]) -> list[HandedDown]:
    """The descriptors that were handed down to this process, in order. The variables are taken out of ``environ``: a
    child that is started later must not believe that they are for it."""
    pid, count, names = (environ.pop(f"LISTEN_{what}", "") for what in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    called = names.split(":") if names else []
    called += [""] * (int(count) - len(called))
    return [HandedDown(name, FIRST_FD + n) for n, name in enumerate(called[: int(count)])]


class ServiceManager:
    """Whom we tell how this process is. Nobody, when nobody asked."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # of the abstract namespace
            self._address = "\0" + self._address[1:]
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
        mine = usec.isdigit() and pid in (None, str(os.getpid()))
        #: a sign of life is due this often; None: nobody wants one
        self._beat_s = int(usec) / 2e6 if mine and int(usec) else None
        self._task: asyncio.Task[None] | None = None
        self._complained = False

    def ready(self, status: str) -> None:
        """Clients are served from now on. ``status``: a line for whoever asks the manager."""
        self._tell("READY=1", f"STATUS={status}")
        if self._beat_s is not None and self._address and self._task is None:
            self._task = supervise(self._beat, name="sign of life")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is read again meanwhile, and put in force or refused."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={int(clock.monotonic_s() * 1e6)}")
        try:
            yield
        finally:
            self._tell("READY=1")

    def stopping(self, within_s: float) -> None:
        """This process ends, after the answers in progress: give it that long."""
        self._tell("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={int(within_s * 1e6)}")

    async def close(self) -> None:
        await stop(self._task)

    async def _beat(self) -> None:
        assert self._beat_s is not None
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._beat_s)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
                told.setblocking(False)
                told.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                _log.warning("the service manager cannot be told how this router is: %s", error.strerror or error)
