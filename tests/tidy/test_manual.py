"""The manual page is the program's own description, is correct roff, and is installed with the program."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib

import pytest

from cli.app import COMMANDS
from cli.examples import every
from cli.manual import page
from tests.tidy.tree import ROOT

PAGE = ROOT / "docs" / "router.1"


def test_the_page_is_what_the_program_says() -> None:
    assert PAGE.read_text() == page(), "python -m cli.manual > docs/router.1"


def test_the_page_is_installed_where_man_looks() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["shared-data"] == {"docs/router.1": "share/man/man1/router.1"}


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_has_no_complaint() -> None:
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(PAGE)], capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.skipif(shutil.which("man") is None or shutil.which("groff") is None, reason="man and groff not installed")
def test_man_shows_the_page_without_a_warning() -> None:
    env = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "160", "MAN_KEEP_FORMATTING": ""}
    command = ["man", "--warnings", "-P", "cat", "-l", str(PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    shown = done.stdout.replace("‐", "-").replace("−", "-")
    for name in COMMANDS:
        assert f"   router {name}" in shown
    assert not [example.line for example in every() if f"       {example.line}\n" not in shown]
    for word in ("EXIT STATUS", "ENVIRONMENT", "ROUTER_ADMIN_URL", "--timeout SECONDS"):
        assert word in shown
