"""The files of the checkout, as the house rules see them."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("router", "cli", "sim", "bench", "tests")
_PRUNED = {".git", ".venv", ".cache", ".hypothesis", "__pycache__", "node_modules", "build", "dist", "out"}


@cache
def files() -> tuple[Path, ...]:
    """Every file that is, or is meant to be, in the repository."""
    return tuple(sorted(_walk()))


def _walk() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in _PRUNED and not f.endswith(("_cache", ".egg-info"))]
        yield from (Path(folder) / name for name in names if name not in _PRUNED)  # .git is a file in a worktree


def python(*folders: str) -> list[Path]:
    return [p for p in files() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in folders]


def markdown() -> list[Path]:
    return [p for p in files() if p.suffix == ".md"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def text(path: Path) -> str | None:
    """The text of a file, None if it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
