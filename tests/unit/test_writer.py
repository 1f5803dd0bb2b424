"""Lines stay whole, whoever else writes to the same place."""

from __future__ import annotations

import os
import select
from pathlib import Path

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
