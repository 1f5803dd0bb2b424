"""The fleet as a router in another region would see it: for ``router explain --from``."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from router.core.fleet import Fleet


def fleet_seen_from(fleet: Fleet, region: str, now_s: float) -> Fleet:
    """A copy for dry runs that stands in ``region``. The original is left as it was.

    Nobody has measured round trips from there, so they are what the distance suggests. Everything else is as this
    router knows it: queues, rates and prefixes belong to the backends, whoever asks. Leases, prefix indices and the
    configuration are shared with the original, so the copy must only be asked with ``dry_run``, and at ``now_s``.
    """
    backends = (*fleet.backends.values(), *fleet.retired.values())
    shared: list[Any] = [fleet.params, *fleet.leases, *(b.prefix for b in backends), *(b.spec for b in backends)]
    copy = deepcopy(fleet, {id(part): part for part in shared})
    copy.move_to(region, now_s)
    return copy
