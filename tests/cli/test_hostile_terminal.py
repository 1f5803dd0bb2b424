"""Outputs that take nothing, and locales that know no letters: one line each, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.router import ROOT, RouterProcess, Site

COMMANDS = [
    ("--help",),
    ("--version",),
    ("policies", "list"),
    ("policies", "list", "--json"),
    ("config", "schema"),
    ("config", "check", "regions.toml"),
    ("keys", "--help"),
]
#: Python takes UTF-8 where a locale says ASCII, unless it is told not to.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def router(shell: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m cli "$@" {shell}', sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        timeout=60,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_full_disk_is_one_line(arguments: tuple[str, ...]) -> None:
    done = router("> /dev/full", *arguments)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert lines[-1] == "error: cannot write the output: no space left on device", lines
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize("shell", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams_are_no_error(shell: str) -> None:
    done = router(shell, "policies", "list")
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_letters_in_an_ascii_locale_reach_the_router() -> None:
    with RouterProcess([Site("us", "a", "http://127.0.0.1:1", models=["m"])], wait=None) as r:
        connection = ("--admin-url", r.admin)
        made = router("", "keys", "create", "zo\u00eb", *connection, env=ASCII)
        assert made.returncode == 0, made.stderr
        (key,) = r.ask_admin("/admin/v1/keys")["data"]
        assert key["name"] == "zo\u00eb"
        for arguments in (("quota", "show", "zo\u00eb"), ("keys", "show", "zo\u00eb"), ("quota", "show", "no\u00eb")):
            done = router("", *arguments, *connection, env=ASCII)
            assert done.returncode == (0 if arguments[2] == "zo\u00eb" else 2), done.stderr
            assert b"Traceback" not in done.stderr
        done = router("", "status", *connection, "--admin-token", "t\u00f6ken", env=ASCII)
        assert b"Traceback" not in done.stderr
        done = router("", "status", *connection, "--admin-token", "a\nb")
        assert done.returncode == 2
        assert b"HTTP cannot send" in done.stderr
