"""Writes lines to a file or a stream without blocking the event loop, by a bounded queue and a thread."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from router import clock
from router.complaint import Complaint
from router.words import plural

_log = logging.getLogger("router.telemetry")

#: Lines tell who asked for what, so only the router's user may read them.
_MODE = 0o600
_QUEUE_BYTES = 16 * 1024 * 1024


class LineSink(Protocol):
    """Where bytes go. ``write`` may block; only the writer's thread calls it."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class StreamSink:
    """An open file descriptor that belongs to somebody else, e.g. standard output.

    Lines stay whole when several processes write to one pipe: no write is longer than a pipe keeps together, except a
    single line that is.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)

    def write(self, data: bytes) -> None:
        for piece in _whole_lines(data, select.PIPE_BUF) if self._pipe else (data,):
            view = memoryview(piece)
            while view:
                view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        pass


class RotatingFile:
    """Appends to ``path``; past ``file_bytes`` it becomes ``path.1``, that ``path.2``, up to ``files`` in all.

    Raises OSError when the file cannot be opened. Only whole writes go to one file, and one that fails half-way is
    taken back, so lines stay whole. Several processes may write to one path: each write locks the file and looks
    whether another process has rotated it. All its files can be read by their owner only.
    """

    def __init__(self, path: str, *, file_bytes: int, files: int) -> None:
        self._path = Path(path)
        self._file_bytes = file_bytes
        self._files = files
        self._file = self._open()
        for number in range(1, files):
            _make_private(self._numbered(number))

    def write(self, data: bytes) -> None:
        self._lock()
        try:
            size = os.fstat(self._file).st_size
            if size and size + len(data) > self._file_bytes:
                self._rotate()
            self._append(data)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._file)

    def _append(self, data: bytes) -> None:
        """Write all of it or nothing: a full disk may take only a part."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            if (taken := len(data) - len(view)) and stat.S_ISREG((now := os.fstat(self._file)).st_mode):
                os.ftruncate(self._file, now.st_size - taken)
            raise

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        _make_private(file)
        return file

    def _lock(self) -> None:
        """Lock the file that is at ``path`` now. A file that was removed is created again."""
        while True:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(self._file), self._path.stat()):
                    return
            except FileNotFoundError:
                pass
            other = self._open()
            os.close(self._file)
            self._file = other

    def _rotate(self) -> None:
        """The next file is locked before the lock on this one is given up."""
        full = self._file
        for number in range(self._files - 1, 0, -1):
            source = self._numbered(number - 1)
            if source.exists():
                source.replace(self._numbered(number))
        if self._files == 1:
            self._path.unlink(missing_ok=True)
        following = self._open()
        fcntl.flock(following, fcntl.LOCK_EX)
        self._file = following
        os.close(full)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def _make_private(file: int | Path) -> None:
    """Make a file of ours readable by its owner only. Devices, pipes and files of others stay as they are."""
    try:
        now = os.stat(file)
        if stat.S_ISREG(now.st_mode) and stat.S_IMODE(now.st_mode) != _MODE and now.st_uid == os.geteuid():
            os.chmod(file, _MODE)
    except OSError:
        return


def _whole_lines(data: bytes, at_most: int) -> Iterator[bytes]:
    """``data`` in pieces of whole lines, each of ``at_most`` bytes or a single line."""
    start = 0
    while len(data) - start > at_most:
        end = data.rfind(b"\n", start, start + at_most) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


class LineWriter:
    """Queues bytes for a sink. When the sink is slower than its input, lines that do not fit are dropped and counted.

    The log tells that a sink fails, ever more rarely while it lasts, and that it writes again. If the sink is the log
    (``is_log``), only the latter can be told.
    """

    def __init__(self, sink: LineSink, *, name: str, queue_bytes: int = _QUEUE_BYTES, is_log: bool = False) -> None:
        self._sink = sink
        self._name = name
        self._is_log = is_log
        self._complaint = Complaint()
        self._lost_before = 0
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._queue_bytes = queue_bytes
        self._ready = threading.Condition()
        self._closing = False
        self.dropped = 0
        self.errors = 0
        self._thread = threading.Thread(target=self._run, name=f"writer-{name}", daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> None:
        """Queue whole lines. Never blocks on the sink and never raises."""
        with self._ready:
            if self._closing or self._queued_bytes + len(data) > self._queue_bytes:
                self.dropped += data.count(b"\n")
                return
            self._queue.append(data)
            self._queued_bytes += len(data)
            self._ready.notify()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is queued, then close the sink. Gives up after ``timeout_s``."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._queue and not self._closing:
                    self._ready.wait()
                if not self._queue:
                    break
                batch = list(self._queue)
                self._queue.clear()
                self._queued_bytes = 0
            for data in batch:
                self._write(data)
        with contextlib.suppress(OSError):
            self._sink.close()

    def _write(self, data: bytes) -> None:
        try:
            self._sink.write(data)
        except OSError as error:
            self.errors += 1
            self.dropped += data.count(b"\n")
            why = error.strerror or type(error).__name__
            if self._complaint.worth_a_line(why, clock.monotonic_s()) and not self._is_log:
                _log.error("the %s cannot be written, its lines are lost: %s", self._name, why)
            return
        if self._complaint.settled():
            lost, self._lost_before = self.dropped - self._lost_before, self.dropped
            _log.warning("the %s is written again; lost: %s", self._name, plural(lost, "line"))
