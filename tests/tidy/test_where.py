"""docs/where.md: each fact is in the file that the table names, under the name that it gives."""

from __future__ import annotations

import ast
import re

import pytest

from tests.tidy.tree import ROOT

ROWS = re.findall(r"^\| (.+?) \| `(.+?)` \| `(.+?)` \|$", (ROOT / "docs" / "where.md").read_text("utf-8"), re.MULTILINE)


def defined(source: str) -> set[str]:
    """Functions, classes and variables that a module or its classes define, attributes of ``self`` among them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def test_there_are_enough() -> None:
    assert len(ROWS) >= 25
    assert len({fact for fact, _, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("fact", "file", "name"), ROWS, ids=[fact for fact, _, _ in ROWS])
def test_the_fact_is_there(fact: str, file: str, name: str) -> None:
    assert name in defined((ROOT / file).read_text("utf-8")), f"{fact}: {name} is not defined in {file}"
