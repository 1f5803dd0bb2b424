"""What the demo tells people to type can be typed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli.commands.demo import program


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the program and its Python, and a shell that finds neither."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "router").write_text("")
    (folder / "router").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    return folder


def test_from_the_checkout(venv: Path) -> None:
    assert program() == ".venv/bin/router"


def test_from_another_folder(
    venv: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert program() == str(venv / "router")


def test_from_an_active_environment(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(venv))
    assert program() == "router"


def test_without_the_program(venv: Path) -> None:
    (venv / "router").unlink()
    assert program() == "router"
