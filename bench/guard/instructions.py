"""Instructions of the interpreter per request and per streamed chunk: the same in every run and on any machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from bench import environments
from bench.guard.rig import Failed

_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions per request or chunk, in all and by function."""

    total: float
    by_function: dict[str, float]


def counted(*arguments: str) -> dict[str, Count]:
    """One count per scenario, by ``count.py`` in a process of its own: the hashes of strings are fixed there."""
    command = [sys.executable, "-m", "bench.guard.count", *arguments]
    env = os.environ | {"PYTHONHASHSEED": "0"}
    ran = subprocess.run(
        command, cwd=environments.HERE.parent, env=env, capture_output=True, timeout=_TIMEOUT_S, check=False
    )
    if ran.returncode:
        raise Failed(ran.stderr.decode(errors="replace")[-2000:])
    return {name: Count(sum(by.values()), by) for name, by in json.loads(ran.stdout).items()}
