"""Starting programs pinned to cores, waiting until they answer, and ending them with everything they started."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STOP_S = 8.0


def leave_on_sigterm() -> None:
    """Let SIGTERM end this program as Ctrl-C does, so that what it started is ended. A second one does not cut that
    short."""

    def leave(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(143)

    signal.signal(signal.SIGTERM, leave)


def raise_file_limit(wanted: int) -> int:
    """Raises this process's limit of open files, which children inherit. Returns the limit that holds now."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(wanted, hard), hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
    return hard


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def pinned(cpus: frozenset[int]) -> Iterator[None]:
    """What is started inside runs on `cpus` only; thread pools that ask for the number of cores see just these."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(
    command: Sequence[str | Path],
    log: Path,
    *,
    cpus: frozenset[int],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, output to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out, pinned(cpus):
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[Any]) -> None:
    """Ends the program and its whole session: politely, then by force."""
    for number, wait_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            if number == signal.SIGKILL:
                return
    process.kill()


def read_line(process: subprocess.Popen[bytes], timeout_s: float) -> str:
    """One line of the program's unbuffered standard output. Raises TimeoutError, or EOFError when it ended instead."""
    assert process.stdout is not None
    line = bytearray()
    deadline_s = time.monotonic() + timeout_s
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
        if not ready:
            raise TimeoutError(f"{process.args!r} said nothing for {timeout_s:.0f} s")
        piece = process.stdout.readline()
        if not piece:
            raise EOFError(f"{process.args!r} ended")
        line += piece
    return line.decode().rstrip("\n")


def expect(process: subprocess.Popen[bytes], line: str, timeout_s: float) -> None:
    """Waits for one certain line. Raises EOFError if the program says something else."""
    said = read_line(process, timeout_s)
    if said != line:
        raise EOFError(f"expected {line!r}, got {said[:200]!r}")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program of our own that has no children, and closes its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def http(
    url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None, timeout_s: float = 5.0
) -> bytes:
    """The body of a 2xx answer. Raises OSError (urllib's errors are OSErrors)."""
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return bytes(answer.read())


def wait_ready(url: str, process: subprocess.Popen[Any], log: Path, timeout_s: float) -> None:
    """Waits for a 2xx answer. Raises RuntimeError with the end of the log when the program ends or the time is over."""
    deadline_s = time.monotonic() + timeout_s
    reason = "no answer"
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            reason = f"ended with {process.returncode}"
            break
        try:
            http(url, timeout_s=2.0)
            return
        except urllib.error.HTTPError as error:
            reason = f"{url} answered {error.code}"
        except OSError as error:
            reason = str(error)
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
    raise RuntimeError(f"not ready: {reason}\n{tail}")
