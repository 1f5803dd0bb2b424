"""Short functions, the project's own words, nothing left behind."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tidy.tree import CODE, ROOT, name, python, text, tree

FUNCTION_LINES_MAX = 70

#: What design and GLOSSARY.md call differently, as parts of names: word -> the word to use.
OTHER_WORDS = {
    "cooldown": "ejected, probation",
    "deployment": "backend",
    "halfopen": "probation",
    "endpoint": "backend",
    "replica": "backend",
    "failover": "retry, continue",
}
#: Allowed only with a unit or a qualifier beside them.
BARE_WORDS = {
    "latency": "ttft_s, itl_s, rtt_s",
    "timeout_ms": "timeout_s: seconds inside the router",
}


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{name(path)}:{node.lineno} {node.name} has {lines} lines"
        for path in python(*CODE)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long, "\n".join(long)


def test_one_word_per_thing() -> None:
    """But for policies after other projects: each keeps the words of its source inside its file."""
    wrong = [
        f"{name(path)}:{line} {identifier}: say {instead}"
        for path in python("router", "cli")
        if path.parent.name != "policy"
        for line, identifier in _own_names(path)
        if (instead := _other_word(identifier)) is not None
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_for_later() -> None:
    marker = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
    found = [
        f"{name(path)}:{number}"
        for path in python(*CODE)
        for number, line in enumerate((text(path) or "").splitlines(), 1)
        if marker.search(line)
    ]
    assert not found, "\n".join(found)


def test_unit_tests_have_no_world() -> None:
    """tests/unit: no sockets, no processes, no event loop, no sleep."""
    world = {"socket", "asyncio", "subprocess", "threading", "uvloop", "aiohttp"}
    found = [
        f"{name(path)}:{node.lineno}"
        for path in python("tests")
        if "unit" in path.parts
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Import) and world & {alias.name.partition(".")[0] for alias in node.names})
        or (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in world)
        or (isinstance(node, ast.Attribute) and node.attr == "sleep")
    ]
    assert not found, "\n".join(found)


def test_no_test_measures_the_machine() -> None:
    """Work is counted instead: calls, bytes, commands. Only the long runs measure (``make soak``, on a quiet machine)."""
    clocks = {"process_time", "process_time_ns", "perf_counter", "perf_counter_ns", "thread_time", "thread_time_ns"}
    found = [
        f"{name(path)}:{node.lineno} {node.attr}"
        for path in python("tests")
        for top in tree(path).body
        if not any("soak" in ast.unparse(mark) for mark in getattr(top, "decorator_list", ()))
        for node in ast.walk(top)
        if isinstance(node, ast.Attribute) and node.attr in clocks
    ]
    assert not found, "\n".join(found)


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _own_names(path: Path) -> Iterator[tuple[int, str]]:
    """The names that this file gives: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.lineno, node.attr


def _other_word(identifier: str) -> str | None:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", identifier).lower().strip("_")
    for word, instead in OTHER_WORDS.items():
        if re.search(rf"(?:^|_){word}s?(?:_|$)", spaced):
            return instead
    return BARE_WORDS.get(spaced)
