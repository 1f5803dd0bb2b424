"""Files that only their owner may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import private_files
from cli.errors import CliError


def test_what_is_written_is_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    private_files.write(path, "one\n")
    private_files.write(path, "two\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert private_files.read_secret(path) == "two"
    assert [p.name for p in path.parent.iterdir()] == ["token"]


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret")
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(CliError, match=f"mode {mode:04o}") as caught:
            private_files.read_secret(path)
        assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("text", ["", "\n", "two\nlines"])
def test_a_secret_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(CliError, match="one token"):
        private_files.read_secret(path)


def test_no_file_and_no_place_are_errors_and_not_tracebacks(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="no such file"):
        private_files.read_secret(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(CliError, match="cannot write"):
        private_files.write(tmp_path / "file" / "token", "x")
