"""Processes of a router as Linux lists them in ``/proc``, where each may end while one looks at it."""

from __future__ import annotations

import urllib.error
from pathlib import Path

from tests.support.router import RouterProcess


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def command(pid: int) -> str:
    """Its words; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers(router: RouterProcess) -> list[int]:
    return [pid for pid in children(router.process.pid) if "router.workers" in command(pid)]


def all_serve(router: RouterProcess) -> bool:
    """Whether all its workers do. False, too, while one that starts cannot be asked."""
    try:
        status = router.ask_admin("/admin/v1/status")["router"]
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return bool(status["workers_serving"] == status["workers"])
