"""Routers that follow each other on the same addresses, and clients that must not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import orjson

from tests.support.ports import free_port
from tests.support.router import ROOT, Site, configuration

#: How long a router may take to say something.
HEAR_S = 60.0
#: The part of a service manager between fork and exec: the descriptors are 3 and 4, and the variables are for this process.
_HAND_DOWN = """
import os, sys
for n, fd in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(fd, 100 + n)
for n in range(len(sys.argv[1].split(","))):
    os.dup2(100 + n, 3 + n)
    os.close(100 + n)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Takeover:
    """Plays the service manager. ``passes``: it opens the sockets and hands them down; else each router binds them."""

    def __init__(self, folder: Path, sites: Sequence[Site], *, head: str, passes: bool) -> None:
        self.listen, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.file = folder / "regions.toml"
        self.file.write_text(configuration(sites, head=head, listen=self.listen, admin=self.admin))
        self._folder = folder
        self.routers: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []
        self.sockets = [_listening(address) for address in (self.listen, self.admin)] if passes else []
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(str(folder / "notify"))
        self.told.settimeout(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for router in self.routers:
            if router.poll() is None:
                router.kill()
            router.wait()
        for each in (*self.sockets, self.told):
            each.close()

    def start(self) -> subprocess.Popen[bytes]:
        """The next router. Returns when it says that it is ready."""
        log = self._folder / f"log-{len(self.routers)}"
        env = {**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(self._folder / "notify")}
        command = ["-m", "router", str(self.file)]
        fds = [each.fileno() for each in self.sockets]
        if fds:
            env |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": "clients:admin"}
            command = ["-c", _HAND_DOWN, ",".join(map(str, fds)), *command]
        with log.open("wb") as stderr:
            router = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=env,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=fds,
            )
        self.routers.append(router)
        self.logs.append(log)
        end_s = time.monotonic() + HEAR_S
        while "READY=1" not in self.hear(end_s):
            pass
        return router

    def hear(self, end_s: float | None = None) -> list[str]:
        """The next thing that a router says. Fails when none says anything in time, or one has ended badly."""
        end_s = end_s or time.monotonic() + HEAR_S
        while time.monotonic() < end_s and not any(router.poll() for router in self.routers):
            with contextlib.suppress(TimeoutError):
                return self.told.recv(4096).decode().split("\n")
        codes = [router.poll() for router in self.routers]
        raise AssertionError("\n".join([f"exit codes {codes}", *(log.read_text() for log in self.logs)]))

    def stop(self, router: subprocess.Popen[bytes]) -> None:
        router.send_signal(signal.SIGTERM)

    def end(self) -> None:
        """Every router ends in peace."""
        for router, log in zip(self.routers, self.logs, strict=True):
            if router.poll() is None:
                router.send_signal(signal.SIGTERM)
            assert router.wait(60) == 0, log.read_text()
            text = log.read_text()
            assert '"level":"error"' not in text, text
            assert "Traceback" not in text, text


def _listening(address: str) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    host, _, port = address.rpartition(":")
    made.bind((host, int(port)))
    made.listen(4096)
    return made


class Load:
    """Clients that ask until they are told to stop: ``kept`` keep their connections for as long as the router does,
    ``fresh`` make a new one for each request, ``streams`` stream. A request that is not answered whole is in ``failed``.
    """

    def __init__(self, listen: str, *, kept: int = 6, fresh: int = 6, streams: int = 4) -> None:
        self._address = listen.split(":")
        kinds = [((n % 4 + 1) * 0.02, True, False) for n in range(kept)] + [(0.03, False, False)] * fresh
        self._kinds = [*kinds, *[(0.0, True, True)] * streams]
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []
        self.answered = self.streamed = self.goodbyes = 0
        self.failed: list[str] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._ask_on(*kind)) for kind in self._kinds]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 60)

    async def _ask_on(self, pause_s: float, keep: bool, stream: bool) -> None:
        while not self._over:
            try:
                reader, writer = await asyncio.open_connection(*self._address)
            except OSError as error:
                self.failed.append(f"not let in: {error!r}")
                await asyncio.sleep(0.05)
                continue
            try:
                await self._talk(reader, writer, pause_s, keep, stream)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failed.append(f"{'stream' if stream else 'answer'} at {time.time():.3f}: {error!r}")
            finally:
                writer.close()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float, keep: bool, stream: bool
    ) -> None:
        body = orjson.dumps({"model": "m", "messages": [], "stream": stream})
        close = b"" if keep else b"connection: close\r\n"
        while not self._over and not reader.at_eof():
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n%bcontent-length: %d\r\n\r\n%b"
                % (close, len(body), body)
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0] or -1)
            rest = await (reader.readexactly(length) if length >= 0 else reader.readuntil(b"0\r\n\r\n"))
            if not head.startswith(b"http/1.1 200") or (stream and b"[DONE]" not in rest):
                self.failed.append((head + rest).decode())
            self.answered += not stream
            self.streamed += stream
            await asyncio.sleep(pause_s)
            if b"connection: close" in head:
                self.goodbyes += keep
                return
