"""The lock files: whole, hashed, without addresses, and of one mind."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

from tests.tidy.tree import ROOT

RUNTIME = ROOT / "requirements.lock"
BUILD = ROOT / "requirements-build.lock"
DEV = ROOT / "requirements-dev.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

_PIN = re.compile(r"^([a-z0-9][a-z0-9-]*)==([^\s;\\]+)(?: ; ([^\\]+))?")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")

Pins = dict[str, list[tuple[Version, Marker | None, int]]]


def pins(path: Path) -> Pins:
    """name -> (version, marker, hashes) of each pin."""
    found: Pins = {}
    for entry in re.split(r"\n(?=[a-z0-9])", path.read_text()):
        match = _PIN.match(entry)
        assert match is not None, f"{path.name}: {entry[:60]!r} is no pin"
        marker = Marker(match[3]) if match[3] else None
        found.setdefault(match[1], []).append((Version(match[2]), marker, len(_HASH.findall(entry))))
    return found


@pytest.mark.parametrize("lock", [RUNTIME, BUILD, DEV], ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_address(lock: Path) -> None:
    assert "://" not in lock.read_text()
    assert not re.search(r"^\s*--(?!hash=)", lock.read_text(), re.MULTILINE), "options belong into the Makefile"
    bare = [name for name, entries in pins(lock).items() for _, _, hashes in entries if hashes == 0]
    assert not bare


@pytest.mark.parametrize("lock", [RUNTIME, BUILD], ids=lambda path: path.name)
def test_what_is_installed_together_agrees(lock: Path) -> None:
    dev = pins(DEV)
    assert {name: entries for name, entries in pins(lock).items() if dev.get(name) != entries} == {}


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    wanted = {
        RUNTIME: [*project["dependencies"], *extras["embedded"], *extras["jwt"], *extras["keda"]],
        BUILD: groups["build"],
        DEV: [*project["dependencies"], *extras["dev"], *groups["model"]]
        + [requirement for name in ("embedded", "jwt", "keda", "real") for requirement in extras[name]],
    }
    for lock, requirements in wanted.items():
        held = pins(lock)
        for requirement in map(Requirement, requirements):
            if requirement.name == project["name"]:
                continue
            entries = held.get(requirement.name.lower().replace("_", "-"), [])
            assert entries, f"{lock.name} lacks {requirement.name}: make lock"
            assert all(requirement.specifier.contains(v) for v, _, _ in entries), f"{requirement} is not met: make lock"
    assert groups["build"] == PROJECT["build-system"]["requires"]


def test_each_runtime_dependency_earns_its_line() -> None:
    """docs/adr/0002-dependencies.md has a row for each."""
    record = (ROOT / "docs" / "adr" / "0002-dependencies.md").read_text()
    names = [Requirement(text).name for text in PROJECT["project"]["dependencies"]]
    missing = [name for name in names if not re.search(rf"^\| `{name}", record, re.MULTILINE)]
    assert not missing
