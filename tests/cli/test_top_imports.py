"""The live view costs nothing where it is not asked for: no other command imports it, or Textual."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests.support.cli import environment
from tests.tidy.tree import ROOT, name, python, tree

#: The only place that may import the package, when the command runs.
DOOR = "cli/commands/top.py"
#: Its parts that draw; the others are tested without a terminal.
DRAWING = {"cli/top/app.py", "cli/top/detail_screen.py", "cli/top/dialogs.py", "cli/top/grid.py", "cli/top/terminal.py"}


def importers(package: str) -> dict[str, list[str]]:
    """Files that import the package, and inside which functions; an empty name is the top of the file."""
    found: dict[str, list[str]] = {}
    for path in python("router", "cli", "sim", "bench"):
        for node, inside in _nodes(tree(path), ""):
            said = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(module == package or module.startswith(f"{package}.") for module in said):
                found.setdefault(name(path), []).append(inside)
    return found


def _nodes(node: ast.AST, inside: str) -> list[tuple[ast.Import | ast.ImportFrom, str]]:
    found: list[tuple[ast.Import | ast.ImportFrom, str]] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            found.append((child, inside))
        else:
            own = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else inside
            found += _nodes(child, own)
    return found


def test_only_the_parts_that_draw_import_textual() -> None:
    assert set(importers("textual")) == DRAWING


def test_only_the_command_imports_the_live_view_and_only_when_it_runs() -> None:
    outside = {path: where for path, where in importers("cli.top").items() if not path.startswith("cli/top/")}
    assert set(outside) == {DOOR}
    assert all(outside[DOOR]), "inside functions"


def test_starting_the_program_loads_none_of_it() -> None:
    code = "import sys; from cli.app import build; build(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(), cwd=ROOT
    )
    loaded = done.stdout.split()
    assert "cli.commands.top" in loaded
    assert not [module for module in loaded if module.startswith(("textual", "cli.top"))]


def test_one_frame_needs_no_textual() -> None:
    code = "import sys, cli.top.once, cli.top.polling, cli.top.details; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(), cwd=ROOT
    )
    assert not [module for module in done.stdout.split() if module.startswith("textual")]
