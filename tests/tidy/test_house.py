"""Where things are and how they are told: maps, tests beside modules, names, sizes, prose.

What does not keep a rule yet stands in ``debts.toml``, whose lists may only shrink.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from cli.app import COMMANDS, FURTHER
from tests.tidy.tree import CODE, ROOT, markdown, name, python, text, tree

DEBTS = tomllib.loads((ROOT / "tests" / "tidy" / "debts.toml").read_text())
FILE_LINES_MAX = 450
SUBJECT_MAX = 80
#: subjects are judged after this commit
SUBJECTS_SINCE = "69c4772"

#: turns of phrase that a reader must read twice -> what to say instead
BANNED = {
    r"\bso (?:many|much)\b": "the number itself, or 'as many as ...'",
    r"\bof (?:itself|themselves)\b": "on its own; by default",
    r"(?<!there )\b(?:is|are|was|were) no\b(?! longer| more| such| worse| better)": "is not a ...",
    r"\bbut for\b": "except",
    r"\banew\b": "again",
    r"(?:%d|\}) [a-z]+\(s\)": "one or several, by router.words.plural",
    r"\bwhole again\b": "complete",
    r"(?:^|[.:] |\"\"\")What (?:[a-z]+ ){2}[^.?]*\.": "the thing itself as the subject",
}


def test_every_package_maps_its_files() -> None:
    """Each file and folder of a package has a line in the docstring of its ``__init__.py``."""
    unnamed = []
    for init in python("router", "cli", "sim", "bench"):
        if init.name != "__init__.py" or name(init.parent) in DEBTS["unmapped"]:
            continue
        named = set(re.findall(r"^([a-z0-9_]+)(?:/|\.py)?(?: |$)", ast.get_docstring(tree(init)) or "", re.MULTILINE))
        there = {path.stem for path in init.parent.glob("*.py") if not path.stem.startswith("__")}
        there |= {path.parent.name for path in init.parent.glob("*/__init__.py")}
        unnamed += [f"{name(init)} does not name {part}" for part in sorted(there - named)]
        gone = {
            part
            for part in named - there
            if re.search(rf"^{part}(?:\.py)? {{2,}}", ast.get_docstring(tree(init)) or "", re.MULTILINE)
        }
        unnamed += [
            f"{name(init)} names {part}, which is not there"
            for part in sorted(gone)
            if not (init.parent / part).exists()
        ]
    assert not unnamed, "\n".join(unnamed)


def test_every_module_has_a_test_of_its_name() -> None:
    """``test_NAME.py``, or ``test_PACKAGE_NAME.py``. Where several modules have that name, it tests those it imports."""
    tests: dict[str, str] = defaultdict(str)
    for path in python("tests"):
        tests[path.stem] += text(path) or ""
    modules = [path for path in python("router", "cli", "sim") if not path.stem.startswith("__")]
    alike = Counter(path.stem for path in modules)

    def has_test(path: Path) -> bool:
        if f"test_{path.parent.name}_{path.stem}" in tests:
            return True
        own = f"test_{path.stem}"
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        return own in tests and (alike[path.stem] == 1 or dotted in tests[own])

    _only_shrinks("untested", {name(path) for path in modules if not has_test(path)}, "has no test of its name")


def test_nothing_is_used_by_tests_alone() -> None:
    users: dict[str, set[str]] = defaultdict(set)
    for path in python(*CODE):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                said = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                said = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said = [node.value]  # run with python, or loaded by name
            else:
                continue
            for module in said:
                users[module].add(path.relative_to(ROOT).parts[0])
    for command in (*COMMANDS, *(module for more in FURTHER.values() for _, module, _ in more)):
        users[f"cli.commands.{command}"].add("cli")  # loaded by the name in the table
    alone = [
        name(path)
        for path in python("router", "cli", "sim", "bench")
        if not path.stem.startswith("__")
        and "__main__" not in (text(path) or "")
        and (users[".".join(path.relative_to(ROOT).with_suffix("").parts)] | users[path.name]) <= {"tests"}
    ]
    assert not alone, "used by tests alone: " + ", ".join(alone)


def test_one_class_per_name() -> None:
    owners: dict[str, list[str]] = defaultdict(list)
    for path in python("router"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners[node.name].append(name(path))
    several = {owner: files for owner, files in owners.items() if len(files) > 1}
    for owner, files in several.items():
        if owner not in DEBTS["clashes"]:
            raise AssertionError(f"{owner} is the name of several classes: {', '.join(files)}")
    _only_shrinks("clashes", set(several), "is the name of several classes")


def test_files_stay_small() -> None:
    long = {name(path) for path in python(*CODE) if (text(path) or "").count("\n") > FILE_LINES_MAX}
    _only_shrinks("long", long, f"has more than {FILE_LINES_MAX} lines")


def test_prose_is_plain() -> None:
    """Docstrings, comments, messages and documents say what a thing is. Each folder has a ceiling, which may only sink."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in [*python(*CODE), *markdown()]:
        if path.parent == Path(__file__).parent:
            continue
        for turn, why in BANNED.items():
            for match in re.finditer(
                turn, _flowing(path), re.MULTILINE | re.IGNORECASE if "What" not in turn else re.MULTILINE
            ):
                found[_room(path)].append(f"{name(path)}: {match.group()[:70]!r}: say {why}")
    ceilings = DEBTS["prose"]
    for room, turns in found.items():
        ceiling = ceilings.get(room, 0)
        assert len(turns) <= ceiling, f"{room} has {len(turns)} banned turns, {ceiling} were left:\n" + "\n".join(turns)
    done = [room for room in ceilings if not found.get(room)]
    assert not done, f"debts.toml, [prose]: nothing is left to do in {done}; remove the lines"


def test_commit_subjects_are_short() -> None:
    try:
        log = subprocess.run(
            ["git", "-C", str(ROOT), "log", "--format=%h %s", f"{SUBJECTS_SINCE}..HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no history here")
    long = [line for line in log.stdout.splitlines() if len(line.partition(" ")[2]) > SUBJECT_MAX]
    assert not long, "\n".join(long)


def _only_shrinks(debt: str, found: set[str], what: str) -> None:
    listed = Counter(DEBTS[debt])
    assert max(listed.values(), default=1) == 1
    new = sorted(found - listed.keys())
    assert not new, "\n".join(f"{entry} {what}" for entry in new)
    done = sorted(listed.keys() - found)
    assert not done, f"debts.toml, {debt}: remove {', '.join(done)}"


def _flowing(path: Path) -> str:
    """The text with its lines joined, so that a turn is found where a line breaks."""
    lines = (line.strip().removeprefix("#:").removeprefix("#").strip() for line in (text(path) or "").splitlines())
    return re.sub(r"(?<=\S)\n(?=[^\n])", " ", "\n".join(lines))


def _room(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] == "router" and len(parts) > 2 else parts[0] if len(parts) > 1 else "."


#: a count in braces and a noun that is always in the plural: `1 routers`
_ALWAYS_SEVERAL = re.compile(r"\{len\([^{}]*\)\} [a-z]+s\b")


def test_numbers_of_things_are_written_by_plural() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for room in ("cli", "router")
        for path in sorted((ROOT / room).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _ALWAYS_SEVERAL.search(line) and f"{chr(34)}<" not in line and "assert" not in line
    ]
    assert not found, "\n".join(found)
