"""Names that the TAB key completes: of regions, backends, models, keys, tenants, plans, routers and contexts.

They are what the chosen router has. An answer is kept for a minute, in this user's cache, and while nobody answers in
``WAIT_S`` the kept one serves whatever its age. What goes wrong is silent: a shell must not get words of an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cli import contexts, private_files
from cli.client import HttpRemote
from cli.errors import CliError

WAIT_S = 0.2
KEPT_S = 60.0

#: kind -> (path of the admin API, the names in its answer)
_ASKED: dict[str, tuple[str, Callable[[Any], Iterable[str]]]] = {
    "region": ("regions", lambda told: (r["name"] for r in told["data"])),
    "backend": ("regions", lambda told: (b["name"] for r in told["data"] for b in r["backends"])),
    "served": ("regions", lambda told: (m for r in told["data"] for b in r["backends"] for m in b["models"] or ())),
    "key": ("keys", lambda told: (k["name"] for k in told["data"])),
    "tenant": ("keys", lambda told: (k["tenant"] for k in told["data"])),
    "plan": ("config", lambda told: told["config"]["plans"]),
    "model": ("config", lambda told: told["config"]["models"]),
    "router": ("routers", lambda told: (r["name"] for r in told["data"])),
}
#: name of a parameter -> kinds, unless its command says otherwise
_KINDS: dict[str, tuple[str, ...]] = {
    "region": ("region",),
    "from_region": ("region",),
    "backend": ("backend",),
    "model": ("served", "model"),
    "plan": ("plan",),
    "tenant": ("tenant",),
    "router": ("router",),
    "without": ("region", "backend"),
    "_name": ("context",),
}
_KINDS_OF: dict[tuple[str, str], tuple[str, ...]] = {
    **{("regions " + word, "name"): ("region", "backend") for word in ("show", "set", "remove", "drain", "resume")},
    **{("regions " + word, "name"): ("backend", "region") for word in ("notice", "burn-in")},
    **{("keys " + word, "key"): ("key",) for word in ("show", "set", "rotate", "revoke")},
    **{("traffic " + word, "key"): ("key",) for word in ("list", "tail")},
    **{("quota " + word, "key"): ("key", "tenant") for word in ("show", "reset")},
    **{("chaos " + word, "target"): ("region", "backend") for word in ("start", "stop")},
    **{("ctx " + word, "name"): ("context",) for word in ("use", "remove")},
    ("regions add", "model"): (),
    ("config init", "region"): (),
}


def kinds(command: str, parameter: str) -> tuple[str, ...]:
    """Which names a parameter of a command takes; ``command`` without the program's name: ``keys show``."""
    return _KINDS_OF.get((command, parameter), _KINDS.get(parameter, ()))


def completions(wanted: Iterable[str], begun: str, env: Mapping[str, str], flags: Mapping[str, Any]) -> list[str]:
    """The names of these kinds that start with ``begun``, sorted. ``flags``: admin_url, admin_token and context."""
    found = {name for kind in wanted for name in _names(kind, env, flags)}
    return sorted(name for name in found if name.startswith(begun) and name.isprintable())


def _names(kind: str, env: Mapping[str, str], flags: Mapping[str, Any]) -> Iterator[str]:
    try:
        if kind == "context":
            yield from contexts.load(env).places
            return
        path, names_in = _ASKED[kind]
        router = contexts.chosen(
            env, url=flags.get("admin_url"), token=flags.get("admin_token"), context=flags.get("context")
        )
        yield from [str(name) for name in names_in(_told(path, router, env))]
    except (CliError, OSError, ValueError, LookupError):
        return


def _told(path: str, router: contexts.Chosen, env: Mapping[str, str]) -> Any:
    kept = _kept(env, f"{router.url} {router.token} {path}")
    if kept is not None and (text := _fresh(kept)) is not None:
        return json.loads(text)
    try:
        told = HttpRemote(router.url, router.token, what="", hint="", denied="", timeout_s=WAIT_S).get(
            f"/admin/v1/{path}"
        )
    except CliError:
        if kept is None:
            raise
        return json.loads(kept.read_text("utf-8"))
    if kept is not None:
        with suppress(CliError):
            private_files.write(kept, json.dumps(told))
    return told


def _kept(env: Mapping[str, str], asked: str) -> Path | None:
    """Where an answer is kept. The file's name tells neither address nor token."""
    base = env.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        if not env.get("HOME"):
            return None
        base = os.path.join(env["HOME"], ".cache")
    return Path(base) / "meridian" / "names" / hashlib.sha256(asked.encode()).hexdigest()[:32]


def _fresh(path: Path) -> str | None:
    try:
        return path.read_text("utf-8") if time.time() - path.stat().st_mtime < KEPT_S else None
    except OSError:
        return None
