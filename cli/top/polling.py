"""Asks the router, several questions at once and never on the thread that draws.

The threads are daemons: whoever quits does not wait for a router that is silent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.client import Remote
from cli.errors import CliError, StatusError

_V1 = "/admin/v1"
#: What is counted by backend is counted by the minute: the last one and the one that has begun.
_MINUTE_S = 60
#: Most requests and events that are shown.
ROWS_MAX = 300

#: name of a part -> path, and what is asked besides. All take ``router`` but those of ``OF_ALL``.
PARTS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "status": (f"{_V1}/status", {}),
    "regions": (f"{_V1}/regions", {}),
    "stats": (f"{_V1}/stats", {}),
    "requests": (f"{_V1}/requests", {"limit": ROWS_MAX}),
    "in flight": (f"{_V1}/requests/in-flight", {"limit": ROWS_MAX}),
    "events": (f"{_V1}/events", {"limit": ROWS_MAX}),
    "routers": (f"{_V1}/routers", {}),
    "capacity": (f"{_V1}/capacity", {}),
    "backend use": (f"{_V1}/usage", {"since_s": _MINUTE_S, "by": "backend"}),
    "keys": (f"{_V1}/keys", {}),
    "key use": (f"{_V1}/usage", {"since_s": 3600, "by": "key", "sort": "cost"}),
    "quotas": (f"{_V1}/quotas", {}),
}
OF_ALL = frozenset({"routers", "capacity", "keys", "quotas"})
ALWAYS = ("status", "regions", "stats")
#: tab -> what it needs besides
OF_TAB: Mapping[str, tuple[str, ...]] = {
    "regions": ("requests", "in flight", "routers"),
    "backends": ("backend use",),
    "models": ("capacity",),
    "keys": ("keys", "key use", "quotas"),
    "requests": ("in flight", "requests"),
    "events": ("events",),
}


@dataclass(slots=True)
class Reading:
    """The answers of one look. ``trouble``: why the router could not be asked; ``refused``: why it did not answer
    one part."""

    parts: dict[str, Any] = field(default_factory=dict)
    trouble: str | None = None
    refused: dict[str, str] = field(default_factory=dict)


def needed(tab: str) -> tuple[str, ...]:
    return (*ALWAYS, *OF_TAB[tab])


def read(admin: Remote, names: Sequence[str], router: str | None = None) -> Reading:
    """Ask for these parts, all at once, and wait."""
    reading = Reading()

    def ask(name: str) -> None:
        path, query = PARTS[name]
        about = {} if name in OF_ALL or router is None else {"router": router}
        try:
            reading.parts[name] = admin.get(path, **query, **about)
        except StatusError as error:
            reading.refused[name] = error.message
        except CliError as error:
            reading.trouble = error.message

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names[1:]]
    for thread in threads:
        thread.start()
    ask(names[0])
    for thread in threads:
        thread.join()
    return reading


def in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()
