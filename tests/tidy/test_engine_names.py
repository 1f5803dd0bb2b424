"""An engine is a row of ``core/traits.py``: nothing else in the router or its CLI knows one by name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from cli.commands.sim import Engine
from router.core.traits import TRAITS
from sim.shapes import SHAPES
from tests.tidy.tree import name, python, tree

#: common words besides
_PLAIN = {"openai", "router"}
_NAMES = {word for row, traits in TRAITS.items() if row not in _PLAIN for word in (row, traits.title)}
_NAMED = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(_NAMES)))})(?!\w)", re.IGNORECASE)
_ALLOWED = {
    "router/core/traits.py",
    "router/config/example.py",  # an example has to name one
    "cli/examples.py",  # likewise
    "cli/commands/sim.py",  # the simulated ones: see below
    "cli/commands/demo.py",  # the demo with a real llama.cpp
    "cli/demo/real.py",
}


def test_only_the_row_of_an_engine_knows_its_name() -> None:
    found = [
        f"{name(path)}:{line}: {said[:60]!r}"
        for path in python("router", "cli")
        if name(path) not in _ALLOWED
        for line, said in _texts(path)
        if _NAMED.search(said)
    ]
    assert not found, "make it a trait in router/core/traits.py:\n" + "\n".join(found)


def test_every_shape_can_be_chosen_on_the_command_line() -> None:
    assert {engine.value for engine in Engine} == set(SHAPES)
    assert set(SHAPES) <= set(TRAITS)


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module, without docstrings and without the sources that policies name."""
    prose = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            prose.add(node.value)
        elif isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["source"]:
            prose.update(n for n in ast.walk(node.value) if isinstance(n, ast.Constant))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and node not in prose:
            if isinstance(node.value, str):
                yield node.lineno, node.value
            elif isinstance(node.value, bytes):
                yield node.lineno, node.value.decode("latin-1")
