"""File descriptors: how many this process may have, and how many it keeps back from new clients."""

from __future__ import annotations

import contextlib
import os
import resource
import sys

#: Kept for logs, the store, operators, a new configuration; never given to clients or backends' idle connections.
RESERVE = 48
#: Enough for every use; some systems do not accept "infinity" as a limit.
_ENOUGH = 2**20 if sys.platform != "darwin" else 10_240


def raise_limit() -> None:
    """Allow this process and its children as many descriptors as the system lets it have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Descriptors:
    """The descriptors of this process. ``backends_max``: how many connections to backends there can be at most."""

    def __init__(self, backends_max: int, limit: int | None = None) -> None:
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
        self.limit = _ENOUGH if soft == resource.RLIM_INFINITY else soft
        spare = max(2, self.limit - min(RESERVE, self.limit // 4))
        #: A request needs a connection on both sides: clients get half, or what backends cannot use.
        self.clients_max = spare - min(spare // 2, backends_max)
        self.top = spare

    def scarce(self) -> bool:
        """Hardly any are left. The system gives out the lowest free number, so a high one means that all below it are
        taken."""
        try:
            fd = os.dup(2)
        except OSError:
            try:
                fd = os.open(os.devnull, os.O_RDONLY)
            except OSError:
                return True
        os.close(fd)
        return fd >= self.top
