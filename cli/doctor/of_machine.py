"""The limits of this machine for a router: file descriptors, which are connections."""

from __future__ import annotations

import resource

from cli import units
from cli.doctor.symptoms import WARN, Symptom, good
from router.config import Config
from router.wire.descriptors import RESERVE, Descriptors

_AREA = "descriptors"


def look(config: Config, limit: int | None = None) -> list[Symptom]:
    """A router raises its soft limit to the hard one. ``limit``: instead of this shell's."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if limit is None else limit
    most = sum(backend.max_inflight for backend in config.backends)
    found = Descriptors(most if not config.sources else 2**31, None if hard == resource.RLIM_INFINITY else hard)
    asked = config.limits.connections
    text = f"{units.count(found.limit)}, of which {units.count(found.clients_max)} for clients"
    if found.clients_max >= asked:
        return [good(_AREA, "ulimit -n", text)]
    needed = asked + min(most, asked) + RESERVE
    advice = f"ulimit -n {needed} (systemd: LimitNOFILE={needed}), or a smaller [limits] connections."
    return [Symptom(_AREA, "ulimit -n", WARN, f"{text}; [limits] connections is {units.count(asked)}", advice)]
