"""Lines stay whole, whoever else writes to the same place."""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path

import pytest

from router.telemetry.writer import RotatingFile, StreamSink


def test_a_pipe_gets_whole_lines_in_pieces_that_it_keeps_together() -> None:
    reader, writer = os.pipe()
    lines = [b"%d " % i + b"x" * (i % 700) + b"\n" for i in range(90)]
    long = b"y" * (2 * select.PIPE_BUF) + b"\n"
    StreamSink(writer).write(b"".join(lines[:50]) + long + b"".join(lines[50:]))
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read().splitlines(keepends=True) == [*lines[:50], long, *lines[50:]]


def test_two_writers_of_one_file_rotate_it_together(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    one, two = (RotatingFile(str(path), file_bytes=1000, files=100) for _ in range(2))
    for i in range(100):
        (one if i % 3 else two).write(b"%03d " % i + b"x" * 95 + b"\n")
    one.close()
    two.close()
    files = sorted(tmp_path.iterdir(), key=lambda p: int(p.suffix[1:] or 0), reverse=True)
    assert all(file.stat().st_size <= 1000 for file in files)
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert [int(line[:3]) for line in lines] == list(range(100))


def test_a_file_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    file = RotatingFile(str(path), file_bytes=1000, files=2)
    file.write(b"one\n")
    path.rename(tmp_path / "elsewhere")
    file.write(b"two\n")
    file.close()
    assert path.read_text() == "two\n"


def test_only_the_owner_reads_the_journal_rotated_or_not(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal"
    path.parent.mkdir()
    for name in ("journal", "journal.1"):  # of an earlier version
        (path.parent / name).write_text("old\n")
        (path.parent / name).chmod(0o644)
    file = RotatingFile(str(path), file_bytes=100, files=4)
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()} == {0o600}
    for _ in range(5):
        file.write(b"x" * 90 + b"\n")
        path.unlink()
        file.write(b"y" * 90 + b"\n")
    file.close()
    assert len(list(path.parent.iterdir())) == 4
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()} == {0o600}


def test_a_device_keeps_its_mode() -> None:
    before = os.stat(os.devnull).st_mode
    file = RotatingFile(os.devnull, file_bytes=100, files=1)
    file.write(b"x\n")
    file.close()
    assert os.stat(os.devnull).st_mode == before


def test_a_write_that_fails_half_way_leaves_no_piece_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    file = RotatingFile(str(path), file_bytes=1000, files=2)
    file.write(b"one\n")
    write, room = os.write, [2]

    def small_disk(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(fd, bytes(data)[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", small_disk)
    with pytest.raises(OSError, match="No space"):
        file.write(b"two\n")
    monkeypatch.undo()
    file.write(b"three\n")
    file.close()
    assert path.read_text() == "one\nthree\n"


def test_a_folder_that_is_gone_for_a_while_does_not_end_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    file = RotatingFile(str(folder / "journal"), file_bytes=1000, files=2)
    (folder / "journal").unlink()
    folder.rmdir()
    folder.write_text("in the way")
    for _ in range(3):
        with pytest.raises(NotADirectoryError):
            file.write(b"one\n")
    folder.unlink()
    file.write(b"two\n")
    file.close()
    assert (folder / "journal").read_text() == "two\n"
