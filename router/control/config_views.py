"""The configuration in force as the JSON of the admin API: what it is, what was refused, what waits for a restart."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from router.config import Config, dump, warnings
from router.control.reload import Checked, ConfigReloader, Reloaded
from router.store.keys import missing_plans


def config(reloader: ConfigReloader) -> dict[str, Any]:
    return {
        "source": os.path.abspath(reloader.config.source),
        "file": file_of(reloader.config.source),
        "generation": reloader.generation,
        "loaded_s": reloader.loaded_s,
        "refused": refused(reloader),
        "pending": reloader.pending,
        "config": dump(reloader.config),
    }


def state(reloader: ConfigReloader) -> dict[str, Any]:
    """For the status of the router."""
    return {"config_refused": refused(reloader), "config_pending": reloader.pending}


def refused(reloader: ConfigReloader) -> dict[str, Any] | None:
    """The last reload, if it was refused: the next start of the router would fail."""
    last = reloader.refused
    return None if last is None else {"at_s": last.at_s, "problems": list(last.problems)}


def file_of(source: str) -> dict[str, int] | None:
    """Which file it is: who sees the same on a machine sees the router's own file, and not one of the same name."""
    try:
        found = os.stat(source)
    except OSError:
        return None
    return {"inode": found.st_ino, "bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def checked(result: Checked, keys: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """``keys`` as ``views.key`` shows them."""
    return {
        "generation": result.generation,
        "changes": list(result.changes),
        "pending": list(result.pending),
        "warnings": _warnings(result.config, keys),
    }


def reloaded(result: Reloaded, config: Config, keys: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {
        "changed": result.changed,
        "generation": result.generation,
        "changes": list(result.changes),
        "warnings": _warnings(config, keys),
    }


def _warnings(config: Config, keys: Iterable[dict[str, Any]]) -> list[str]:
    useless = [(k["plan"], k["id"], k["name"]) for k in keys if k["plan"] not in config.plans and not k["revoked"]]
    return [*warnings(config), *missing_plans(useless)]
