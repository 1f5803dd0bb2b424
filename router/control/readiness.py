"""Why nobody could be served, in words for /readyz."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from router.core.backend import Backend
from router.core.health import State


def why_nobody_is_served(backends: Collection[Backend], now_s: float) -> str | None:
    """What is wrong with all of them; None when one of them may be sent requests, and has answered before."""
    if not backends:
        return "no usable backend: the configuration names none"
    reasons = Counter(filter(None, (_why_not(backend, now_s) for backend in backends)))
    if sum(reasons.values()) < len(backends):
        return None
    return "no usable backend: " + ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))


def _why_not(backend: Backend, now_s: float) -> str | None:
    if backend.withdrawn:
        reasons = (("draining", backend.draining), ("asleep", backend.asleep), ("not ready", backend.unready))
        return next((reason for reason, holds in reasons if holds), "leaving")
    if backend.burning_in_since_s is not None:
        return "burning in"
    if not backend.usable(now_s):
        return backend.state.value if backend.state is State.EJECTED else "asked to be left alone"
    if backend.rtt.mean_s is None and not backend.requests_total:
        return "not heard of yet"
    return None if backend.models else "without a model"
