"""vLLM production-stack's session routing: a hash ring over the session id."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from hashlib import md5

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.decay import Rate
from router.core.params import Params
from router.core.policy.base import Policy, Ranking
from router.core.types import Lease, Request, Rng

#: points of one backend on the ring (uhashring's ketama)
POINTS = 160
#: requests per second are averaged over this (request_stats_window)
WINDOW_S = 60.0


class SessionHash(Policy):
    """A request with an affinity key goes to the next point on the ring, whatever the load there.

    One without goes to the backend with the lowest request rate; the first that never had any.
    """

    name = "session_hash"
    summary = "Consistent hashing of the affinity key, blind to load; without a key, the lowest request rate."
    source = "vLLM production-stack, routing_logic.py SessionRouter (uhashring, --session-key)"
    observes = True

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._rings: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        self._rates: dict[str, Rate] = {}  # of requests, by backend

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        if request.affinity is None:
            rates = [rate.value(now_s) if (rate := self._rates.get(b.name)) is not None else 0.0 for b in candidates]
            return Ranking(rates.index(min(rates)), rates, "no affinity key, lowest rate", rates, _rate_terms)
        ring = self._ring(tuple(b.name for b in candidates))
        at = bisect(ring, (_point(request.affinity), len(candidates)))
        chosen = ring[at % len(ring)][1]
        costs = [0.0 if i == chosen else 1.0 for i in range(len(candidates))]
        return Ranking(chosen, costs, "next on the ring", costs, _ring_terms)

    def _ring(self, names: tuple[str, ...]) -> list[tuple[int, int]]:
        ring = self._rings.get(names)
        if ring is None:
            if len(self._rings) >= 64:
                self._rings.clear()
            ring = sorted((_point(f"{name}-{k}"), i) for i, name in enumerate(names) for k in range(POINTS))
            self._rings[names] = ring
        return ring

    def dispatched(self, lease: Lease, now_s: float) -> None:
        self._rates.setdefault(lease.backend, Rate(WINDOW_S)).add(1.0, now_s)


def _point(key: str) -> int:
    return int.from_bytes(md5(key.encode(), usedforsecurity=False).digest()[:4], "big")


def _rate_terms(detail: list[float], i: int) -> Terms:
    return (("requests per s", detail[i]),)


def _ring_terms(detail: list[float], i: int) -> Terms:
    return (("not on the ring", detail[i]),)
