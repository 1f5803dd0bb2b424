"""Hedges on the wire: a second attempt beside one whose first token is late. ``core/hedging`` decides when and where.

The first content token wins. When it is the second attempt's, the request's own flow leaves the first attempt and
follows the second one; otherwise the second one is aborted. Either way the client sees one answer, and pays for one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from router import clock
from router.core.fleet import Fleet
from router.core.hedging import Hedging
from router.core.outcomes import Outcome
from router.core.sse import StreamKind
from router.core.types import Lease, Rng
from router.gateway.exchange import Exchange, Superseded
from router.gateway.relay import Relay
from router.gateway.settings import InForce
from router.upstream.classify import AttemptEnd
from router.upstream.pool import ConnectError, Pool
from router.wire.flow import Signal
from router.wire.outbound import Outbound

if TYPE_CHECKING:
    from router.config import HedgeSection
    from router.gateway.attempt import Attempts

#: Streams whose second beginning has no effect but its cost.
_KINDS = frozenset({StreamKind.CHAT, StreamKind.MESSAGES})
_SUPERSEDED = AttemptEnd(Outcome.SUPERSEDED)
_GONE = AttemptEnd(Outcome.CLIENT_GONE)
_NEVER_S = float("inf")
#: A request that could not be hedged is looked at again after this long.
_AGAIN_S = 0.1


class Hedge(Signal[AttemptEnd]):
    """The second attempt of one request. Set when it ends, whoever waits for that."""

    __slots__ = ("_hedges", "_x", "followed", "lease", "pool", "relay")

    def __init__(self, hedges: Hedges, x: Exchange, lease: Lease, pool: Pool) -> None:
        super().__init__()
        self._hedges = hedges
        self._x = x
        self.lease = lease
        self.pool = pool
        self.relay: Relay[Exchange] | None = None  # when it is connected
        #: the first attempt is over, and the flow of the request waits for this one
        self.followed = False

    def ended(self, end: AttemptEnd) -> None:
        """It has come to an end of its own."""
        if end.stale:  # a pooled connection was closed under it
            self._hedges.connect(self, self._x, new=True)
        elif self.followed:
            self.set(end)
        else:
            self._hedges.drop(self._x, end)

    def begins(self, relay: object) -> None:
        """One of the two attempts has its first content token: the other one is superseded."""
        x = self._x
        if relay is not self.relay:
            if not self.followed:
                self._hedges.drop(x, _SUPERSEDED)
        elif not self.followed and x.flow is not None:
            x.flow.throw(Superseded())  # it runs on until it waits for this attempt


class Second(Relay[Exchange]):
    """The relay of a second attempt: it tells its hedge when it ends."""

    __slots__ = ("hedge",)

    hedge: Hedge

    def set(self, value: AttemptEnd) -> None:
        if not self.is_set:
            super().set(value)
            self.hedge.ended(value)


class Hedges:
    """Call ``sweep`` many times a second. ``on``: the configuration says so."""

    def __init__(self, force: InForce, fleet: Fleet, sends: Attempts, rng: Rng) -> None:
        self._force = force
        self._fleet = fleet
        self._sends = sends
        self._rng = rng
        self._section: HedgeSection | None = None
        self._hedging = Hedging(fleet, share=0.0, floor_s=0.0)
        self.on = False
        #: first attempts that may be hedged, and when they are late
        self._due: dict[Exchange, tuple[Lease, float]] = {}
        self._next_s = _NEVER_S
        self._follow_file()

    def sent(self, x: Exchange, lease: Lease) -> None:
        """An attempt begins."""
        due_s = self._hedging.sent(lease)
        if due_s == _NEVER_S or x.shape is not None or x.trial is not None or x.rest is not None:
            return
        if x.envelope.kind in _KINDS:
            self._due[x] = (lease, due_s)
            self._next_s = min(self._next_s, due_s)

    def came(self, lease: Lease, now_s: float) -> None:
        """The first token of an attempt is here."""
        self._hedging.came(lease, now_s)

    def lost(self, lease: Lease, now_s: float) -> None:
        """An attempt ended without a first token."""
        self._hedging.lost(lease, now_s)

    def sweep(self, now_s: float) -> None:
        """Hedge the requests whose first token is late."""
        if self._force.settings.config.hedge is not self._section:
            self._follow_file()
        if now_s < self._next_s:
            return
        self._next_s = _NEVER_S
        for x, (lease, due_s) in list(self._due.items()):
            if x.lease is not lease or lease.first_token_s is not None:
                del self._due[x]
                continue
            if due_s <= now_s:
                if self._begin(x, lease, now_s):
                    del self._due[x]
                    continue
                due_s = now_s + _AGAIN_S  # it may be possible in a moment
                self._due[x] = (lease, due_s)
            self._next_s = min(self._next_s, due_s)

    def drop(self, x: Exchange, end: AttemptEnd) -> None:
        """The second attempt is over, and the first one goes on, or has answered."""
        hedge, x.hedge = x.hedge, None
        assert hedge is not None
        if end is not _SUPERSEDED and end is not _GONE and x.course is not None:
            x.course.lost(hedge.lease.backend, died=end.died)
        if hedge.relay is not None and not hedge.relay.is_set:
            hedge.relay.abort()
        self._sends.note(x, hedge.lease, hedge.pool, end, hedge.relay, hedge=True)
        hedge.relay = None

    def client_gone(self, x: Exchange) -> None:
        self.drop(x, _GONE)

    def connect(self, hedge: Hedge, x: Exchange, *, new: bool = False) -> None:
        """Send it on a connection that is yet to be made. ``new``: on no other."""
        hedge.relay = None
        task = self._sends.connect(hedge.pool, new=new)

        def connected(task: asyncio.Future[Outbound]) -> None:
            if x.hedge is not hedge or hedge.is_set:
                hedge.pool.keep_for_later(task)
            elif isinstance(error := task.exception(), ConnectError):
                end = AttemptEnd(error.outcome, error.code, detail=error.detail, unsent=error.unsent)
                hedge.ended(end)
            else:
                self._send(hedge, x, task.result())

        task.add_done_callback(connected)

    def _begin(self, x: Exchange, lease: Lease, now_s: float) -> bool:
        course = x.course
        decision = None if course is None else self._hedging.second(course, lease, now_s, self._rng)
        if decision is None:
            return False
        pool = self._sends.pool_of(x, decision.lease.backend)
        x.hedge = hedge = Hedge(self, x, decision.lease, pool)
        outbound = pool.take(now_s)
        if outbound is None:
            self.connect(hedge, x)
        else:
            self._send(hedge, x, outbound)
        return True

    def _send(self, hedge: Hedge, x: Exchange, outbound: Outbound) -> None:
        try:
            self._sends.send_beside(x, hedge, outbound, clock.monotonic_s())
        except ConnectionResetError:
            hedge.ended(AttemptEnd(Outcome.UNREACHABLE, "upstream_unreachable", detail="closed the connection at once"))

    def _follow_file(self) -> None:
        self._section = section = self._force.settings.config.hedge
        self.on = section.enabled
        self._hedging = Hedging(self._fleet, share=section.budget / 100.0, floor_s=section.floor)
