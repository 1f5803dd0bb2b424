"""Lines to a file or a stream without ever blocking the event loop: a bounded queue and one thread that writes."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

_QUEUE_BYTES = 16 * 1024 * 1024


class Sink(Protocol):
    """Where bytes go. ``write`` may block; only the writer's thread calls it."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class StreamSink:
    """An open file descriptor that belongs to somebody else, e.g. standard output.

    Lines stay whole when several processes write to one pipe: what is written at once is no longer than a pipe keeps
    together, unless a single line is.
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

    Raises OSError when the file cannot be opened. Only whole writes go to one file, so lines stay whole. Several
    processes may write to one path: each write locks the file and looks whether another process has rotated it.
    """

    def __init__(self, path: str, *, file_bytes: int, files: int) -> None:
        self._path = Path(path)
        self._file_bytes = file_bytes
        self._files = files
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, data: bytes) -> None:
        self._lock()
        try:
            size = os.fstat(self._file.fileno()).st_size
            if size and size + len(data) > self._file_bytes:
                self._rotate()
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        self._file = self._path.open("ab", buffering=0)

    def _lock(self) -> None:
        """Lock the file that is at ``path`` now. One that was removed is made anew."""
        while True:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                    return
            except FileNotFoundError:
                pass
            self._file.close()
            self._open()

    def _rotate(self) -> None:
        """The next file is locked before the lock on this one is given up."""
        full = self._file
        for number in range(self._files - 1, 0, -1):
            source = self._numbered(number - 1)
            if source.exists():
                source.replace(self._numbered(number))
        if self._files == 1:
            self._path.unlink(missing_ok=True)
        self._open()
        fcntl.flock(self._file, fcntl.LOCK_EX)
        full.close()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


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
    """Queues bytes for a sink. When the sink is slower than its input, what does not fit is dropped and counted."""

    def __init__(self, sink: Sink, *, name: str, queue_bytes: int = _QUEUE_BYTES) -> None:
        self._sink = sink
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
                try:
                    self._sink.write(data)
                except OSError:
                    self.errors += 1
                    self.dropped += data.count(b"\n")
        self._sink.close()
