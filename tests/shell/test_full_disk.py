"""A writer whose sink fails: told once, then ever more rarely, and the end of it with the count."""

from __future__ import annotations

import errno
import logging
import threading

import pytest

from router.telemetry.writer import LineWriter


class FullDisk:
    """A sink that fails while it is full. ``tried`` is released for each time it does."""

    def __init__(self) -> None:
        self.full = True
        self.lines = 0
        self.tried = threading.Semaphore(0)

    def write(self, data: bytes) -> None:
        if self.full:
            self.tried.release()
            raise OSError(errno.ENOSPC, "No space left on device")
        self.lines += 1

    def close(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_a_full_disk_is_told_once_and_its_end_with_the_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router.telemetry")
    disk = FullDisk()
    writer = LineWriter(disk, name="journal")
    for _ in range(200):
        writer.put(b"a line\n")
        assert disk.tried.acquire(timeout=30)
    disk.full = False
    writer.put(b"a line\n")
    writer.close()
    assert [r.getMessage() for r in caplog.records] == [
        "the journal cannot be written, its lines are lost: No space left on device",
        "the journal is written again; lost: 200 lines",
    ]
    assert disk.lines == 1


def test_the_log_tells_afterwards_that_it_could_not_be_written(caplog: pytest.LogCaptureFixture) -> None:
    disk = FullDisk()
    writer = LineWriter(disk, name="log", is_log=True)
    writer.put(b"a\nb\n")
    assert disk.tried.acquire(timeout=30)
    assert not caplog.records, "it would have to go where nothing goes"
    disk.full = False
    writer.put(b"c\n")
    writer.close()
    assert [r.getMessage() for r in caplog.records] == ["the log is written again; lost: 2 lines"]
