"""The requests of backends that go away at a known time are handed over before they are cut; those of dead backends are
tried elsewhere at once."""

from __future__ import annotations

import math
from collections.abc import Iterable

from router.core.fleet import Fleet
from router.core.leaving import Pace
from router.core.types import Rng
from router.gateway.exchange import Exchange

#: Requests that could not be handed over are asked again after this long: they may have come to a place where they can.
_AGAIN_S = 1.0


class HandOver:
    """Call ``sweep`` many times a second. ``live``: every request there is."""

    def __init__(self, fleet: Fleet, live: Iterable[Exchange], rng: Rng) -> None:
        self._fleet = fleet
        self._rng = rng
        self._live = live
        self._paces: dict[str, Pace] = {}
        self._stay: dict[Exchange, float] = {}  # until when they are not asked again

    def sweep(self, now_s: float) -> None:
        """Hand over the requests whose turn it is, those first that have begun last: they have most before them. The
        others go on where they are, also those that nobody else can continue."""
        leaving = self._fleet.leaving()
        if not leaving:
            if self._paces:
                self._paces, self._stay = {}, {}
            return
        self._paces = {b.name: self._paces.get(b.name) or Pace() for b in leaving}
        self._stay = {x: until_s for x, until_s in self._stay.items() if now_s < until_s}
        for b in leaving:
            notice = b.leaving
            if notice is None or not b.inflight or now_s < notice.window(self._fleet.params)[0]:
                continue
            left = [x for x in self._live if x not in self._stay and _is_at(x, b.name)]
            due = self._paces[b.name].due(len(left), notice, self._fleet.params, now_s)
            if due:
                left.sort(key=_began_s, reverse=True)
                self._hand_over(left, due, now_s)

    def _hand_over(self, left: list[Exchange], due: int, now_s: float) -> None:
        """The first ``due`` of those that can be handed over."""
        for x in left:
            if not due:
                return
            if self._move(x, now_s):
                due -= 1
            else:
                self._stay[x] = now_s + _AGAIN_S

    def _move(self, x: Exchange, now_s: float) -> bool:
        """Hand ``x`` over, if another backend takes it at once."""
        course, lease, relay = x.course, x.lease, x.relay
        if course is None or lease is None or relay is None:
            return False
        if not relay.committed and not course.may_start_over(lease.backend, now_s, self._rng):
            return False
        return relay.hand_over("is to go away")


def _is_at(x: Exchange, backend: str) -> bool:
    return x.relay is not None and x.lease is not None and x.lease.backend == backend


def _began_s(x: Exchange) -> float:
    return x.lease.started_s if x.lease is not None else -math.inf


def leave_the_dead(live: Iterable[Exchange], backend: str, detail: str) -> None:
    """A backend was found dead. Try elsewhere at once what still waits for its first token from there, whole answers
    too, and what was about to be sent there. A stream that has begun goes on for as long as it is not silent."""
    for x in list(live):
        relay = x.relay
        if x.lease is not None and x.lease.backend == backend:
            if relay is None:
                x.found_dead = backend
            else:
                relay.give_up(detail)  # the request runs on from here
                relay.doubt()
        if x.hedge is not None and x.hedge.lease.backend == backend and x.hedge.relay is not None:
            x.hedge.relay.give_up(detail)
