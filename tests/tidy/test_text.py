"""What no file may hold, and what every Markdown file must."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from router.core.health import State
from router.core.outcomes import Outcome
from tests.tidy.tree import ROOT, files, markdown, name, text

# Written in parts, so that this file does not hold what it looks for.
_MACHINE = re.compile(r"(?:^|[^a-zA-Z0-9_.])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "fa" + "rm")) + r")/[a-z.]")
_REGISTRIES = [
    part + rest
    for part, rest in (
        ("py", "pi.org"),
        ("files.python", "hosted.org"),
        ("registry.", "npmjs.org"),
        ("registry-1.", "docker.io"),
        ("gh", "cr.io"),
        ("quay", ".io"),
        ("deb.", "debian.org"),
    )
]
_LOCK_ADDRESS = re.compile(r'"resolved": *"https?://|registry *= *"https?://')


def test_the_patterns_find_what_they_should() -> None:
    for folder in ("wo" + "rk", "ro" + "ot"):
        assert _MACHINE.search(f"see /{folder}/main")
        assert not _MACHINE.search(f"see docs/{folder}/main")
    assert _LOCK_ADDRESS.search('"resolved":' + ' "https://example.org/a.tgz"')


def test_no_path_of_a_machine() -> None:
    found = _lines(lambda line: _MACHINE.search(line) is not None)
    assert not found, "\n".join(found)


def test_no_package_registry() -> None:
    found = _lines(lambda line: _LOCK_ADDRESS.search(line) is not None or any(r in line for r in _REGISTRIES))
    assert not found, "\n".join(found)


def test_markdown_has_one_title() -> None:
    wrong = [
        f"{name(path)} has {len(titles)} titles"
        for path in markdown()
        if len(titles := [line for line in prose(path) if line.startswith("# ")]) != 1
    ]
    assert not wrong, "\n".join(wrong)


def test_links_lead_somewhere() -> None:
    broken = []
    for path in markdown():
        for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose(path))):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            if not there.exists() or (anchor and anchor not in anchors(there)):
                broken.append(f"{name(path)}: {target}")
    assert not broken, "\n".join(broken)


def test_what_was_tried_names_tests_that_there_are() -> None:
    named = re.findall(r"`(tests/[^`]+\.py)(?:::(\w+))?`", (ROOT / "docs/tried.md").read_text())
    assert len(named) > 60
    missing = [
        "::".join(filter(None, (path, inside)))
        for path, inside in named
        if not (ROOT / path).is_file() or (inside and not re.search(rf"\b{inside}\b", (ROOT / path).read_text()))
    ]
    assert not missing, "\n".join(missing)


def test_decisions_are_numbered() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [int(path.name[:4]) for path in records]
    assert numbers == list(range(1, len(numbers) + 1)), "docs/adr: numbered from 1 without gaps"
    for path in records:
        body = text(path) or ""
        assert re.match(rf"# {int(path.name[:4])}\. \S", body), f"{name(path)} begins with its number and title"
        for section in ("## Context", "## Decision", "## Consequences"):
            assert section in body, f"{name(path)} has no {section!r}"


def test_the_glossary_knows_outcomes_and_states() -> None:
    glossary = (ROOT / "GLOSSARY.md").read_text()
    words = [member.value for kind in (Outcome, State) for member in kind]
    assert [word for word in words if f"| `{word}` |" not in glossary] == []


def test_readme_begins_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"```\w*\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    commands = [line.split("#")[0].strip() for line in block.group(1).strip().splitlines()]
    assert commands == ["make demo", "make test"]


def prose(path: Path) -> list[str]:
    """The lines of a Markdown file outside its code blocks."""
    lines, inside = [], False
    for line in (text(path) or "").splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            lines.append(line)
    return lines


def anchors(path: Path) -> set[str]:
    """The anchors of a Markdown file's headings, as code hosts make them."""
    headings = [line.lstrip("#").strip() for line in prose(path) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _lines(wrong: Callable[[str], bool]) -> list[str]:
    return [
        f"{name(path)}:{number}: {line.strip()[:100]}"
        for path in files()
        for number, line in enumerate((text(path) or "").splitlines(), 1)
        if wrong(line)
    ]
