"""The program ``router`` as a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

#: Nobody listens there: the port is reserved and never given out.
NOWHERE = "http://127.0.0.1:1"


class Done(NamedTuple):
    code: int
    out: str
    err: str


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Without what the machine's own environment would tell the program."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("ROUTER_") and k != "COLUMNS"}
    return {**inherited, "PYTHONPATH": str(ROOT), "ROUTER_ADMIN_URL": NOWHERE, **(env or {})}


def router(
    *args: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None, stdin: str = "", timeout_s: float = 60
) -> Done:
    """Run ``router ARGS`` and wait for its end."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *args],
        cwd=cwd,
        env=environment(env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
