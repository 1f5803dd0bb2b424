"""One attempt: a request sent to one backend, from the lease that counts it to the end that is told to everybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from router import clock
from router.core.fleet import Fleet
from router.core.outcomes import CONSEQUENCES, Charge, Outcome
from router.core.sse import StreamKind
from router.core.types import Lease, Rng, Usage
from router.gateway import responses
from router.gateway.assembling import AssemblingRelay, as_stream, shape_for
from router.gateway.continuing import Continuing
from router.gateway.deadlines import Deadlines
from router.gateway.exchange import ClientGone, Exchange, Superseded
from router.gateway.hedge import Hedge, Hedges, Second
from router.gateway.ingress import Ask
from router.gateway.keepers import Keeper, Keepers
from router.gateway.loops import Loops
from router.gateway.relay import Relay
from router.gateway.settings import InForce
from router.gateway.shown_cost import cost_line
from router.gateway.upstream_body import asks_for_usage, body_for, refuses_the_option, shows_usage
from router.gateway.waiting import WaitingRoom
from router.tasks import wait_for
from router.telemetry.journal import AttemptRecord
from router.upstream.classify import DELIVERED, AttemptEnd
from router.upstream.pool import ConnectError, Pool, Pools
from router.wire.outbound import Outbound, Piece

_log = logging.getLogger("router.gateway")

R = TypeVar("R", bound=Relay[Exchange])

_GONE = AttemptEnd(Outcome.CLIENT_GONE)
_SUPERSEDED = AttemptEnd(Outcome.SUPERSEDED)
_OK = Outcome.OK
_WORDS = {outcome: outcome.value for outcome in Outcome}
#: Statuses of an engine that does not understand what it is asked.
_NOT_UNDERSTOOD = frozenset({400, 422})
#: A body longer than this is written beside its head, not copied behind it.
_LONG_BODY_BYTES = 16 * 1024


class Attempts:
    """Makes attempts. ``closing``: answers tell clients that their connections will be closed."""

    def __init__(
        self,
        force: InForce,
        *,
        fleet: Fleet,
        pools: Pools,
        keepers: Keepers,
        waiting: WaitingRoom,
        deadlines: Deadlines,
        date: responses.DateHeader,
        continuing: Continuing,
        rng: Rng,
    ) -> None:
        self._force = force
        self._fleet = fleet
        self._pools = pools
        self._keepers = keepers
        self._waiting = waiting
        self._deadlines = deadlines
        self.date = date
        self._continuing = continuing
        self._rng = rng
        self.hedges = Hedges(force, fleet, self, rng)
        self._loops = Loops()
        self.closing = False

    async def make(self, x: Exchange, ask: Ask, lease: Lease, now_s: float) -> AttemptEnd:
        """One try on one backend, from the lease to its end. Raises ClientGone."""
        pool = self.pool_of(x, lease.backend)
        x.lease, x.relay, x.found_dead, x.connect_s = lease, None, "", None
        if pool.assembled is not None and not ask.stream:
            x.shape = shape_for(ask, x.request.body, pool.assembled)
        else:
            x.shape = None
        if self.hedges.on:
            self.hedges.sent(x, lease)
        end = _GONE  # unless the attempt comes to an end of its own
        try:
            if x.rest is not None and x.rest.limited and await self._used_up(x, pool, now_s):
                end = AttemptEnd(Outcome.MOVED, "stream_interrupted", detail="had nothing left to say")
                return end
            asked = ask.stream and pool.takes_usage_option is not False and asks_for_usage(ask)
            data = self._upstream_bytes(x, ask, pool, ask_usage=asked)
            outbound = pool.take(now_s) or await self._connect(x, pool)
            if x.found_dead:  # while its tokens were counted, or the connection was opened
                outbound.abort()
                raise ConnectError("upstream_unreachable", "does not answer any more")
            end = await self._send(x, ask, pool, outbound, data, now_s)
            if end.stale:  # a pooled connection was closed under us: nothing is lost but a moment
                end = await self._send(x, ask, pool, await self._connect(x, pool, new=True), data, now_s)
            if x.shape is not None and end.status in _NOT_UNDERSTOOD:
                end = await self._as_it_came(x, ask, pool, now_s)
            if asked:
                end = await self._without_option(x, ask, pool, end, now_s)
        except ConnectError as error:
            end = AttemptEnd(error.outcome, error.code, detail=error.detail, unsent=error.unsent)
            end.retry_after_s = error.retry_after_s
        except ConnectionResetError:
            end = AttemptEnd(Outcome.UNREACHABLE, "upstream_unreachable", detail="closed the connection at once")
        except ClientGone:
            if not _has_all(x):
                raise
            end, x.answer.keep_alive = DELIVERED, False
        except Superseded:
            end = _SUPERSEDED
        finally:
            if x.rest is not None:
                _judge_again(end)
            self._end(x, lease, pool, end)
        return end

    async def _as_it_came(self, x: Exchange, ask: Ask, pool: Pool, now_s: float) -> AttemptEnd:
        """An engine that refuses a request as a stream is to find its own words about what the client asked."""
        x.shape = None
        data = self._upstream_bytes(x, ask, pool, ask_usage=False)
        return await self._send(x, ask, pool, pool.take(now_s) or await self._connect(x, pool), data, now_s)

    async def _used_up(self, x: Exchange, pool: Pool, now_s: float) -> bool:
        """Whether nothing is left of the limit of an answer that is to be continued."""
        try:
            return await self._continuing.count(x, pool, pool.take(now_s) or await self._connect(x, pool))
        except ConnectionResetError:
            return False

    async def follow(self, x: Exchange, hedge: Hedge) -> AttemptEnd:
        """The first attempt is over: what the second one comes to. Raises ClientGone."""
        x.lease, x.relay = hedge.lease, hedge.relay
        hedge.followed = True
        end = _GONE
        try:
            end = await hedge
        except ClientGone:
            if not _has_all(x):
                raise
            end, x.answer.keep_alive = DELIVERED, False
        finally:
            x.hedge, x.relay = None, hedge.relay
            self._end(x, hedge.lease, hedge.pool, end, hedge=True)
            hedge.relay = None
        return end

    def pool_of(self, x: Exchange, backend: str) -> Pool:
        """Where the connections for an attempt of this request come from."""
        pool = self._pools[backend]
        return pool if pool.faults is None else pool.faults.pool_for(x.record.key_id)

    async def _without_option(self, x: Exchange, ask: Ask, pool: Pool, end: AttemptEnd, now_s: float) -> AttemptEnd:
        """The stream was asked for its usage. An engine that may not know the option gets the client's own body."""
        known = pool.takes_usage_option
        if end.outcome is _OK:
            pool.takes_usage_option = True
        elif end.status in _NOT_UNDERSTOOD and (refuses_the_option(end.body) or (known is None and end.unexplained)):
            data = self._upstream_bytes(x, ask, pool, ask_usage=False)
            end = await self._send(x, ask, pool, pool.take(now_s) or await self._connect(x, pool), data, now_s)
            if end.status not in _NOT_UNDERSTOOD:
                pool.takes_usage_option = False
                _log.info(
                    "backend %s does not take stream_options: streams are charged by their events", pool.spec.name
                )
        return end

    def connect(self, pool: Pool, *, new: bool = False) -> asyncio.Future[Outbound]:
        """A connection. ``new``: not one that comes back from another request meanwhile."""
        return (pool.order_new if new else pool.order)(self._force.settings.timeouts.connect)

    async def _connect(self, x: Exchange, pool: Pool, *, new: bool = False) -> Outbound:
        """The same for a request. If the client leaves meanwhile, it is kept for the next one."""
        began_s, timeout_s = clock.monotonic_s(), self._force.settings.timeouts.connect
        last_hope = partial(self._is_last_hope, x, x.lease)
        try:
            if not new:
                connection = await wait_for(pool.order(timeout_s, last_hope), pool.keep_for_later)
                if connection.usable or not connection.served:
                    return connection  # else it came back from another request, and was closed since
            return await wait_for(pool.order_new(timeout_s, last_hope), pool.keep_for_later)
        finally:
            x.connect_s = clock.monotonic_s() - began_s

    def _is_last_hope(self, x: Exchange, lease: Lease | None) -> bool:
        """Whether there is nobody else to ask while its connection is being made."""
        if lease is None or x.lease is not lease or x.found_dead or x.course is None:
            return False
        return x.course.is_last_hope(lease.backend, clock.monotonic_s(), self._rng)

    def _upstream_bytes(
        self, x: Exchange, ask: Ask, pool: Pool, *, ask_usage: bool, lease: Lease | None = None
    ) -> tuple[Piece, ...]:
        """The request for the backend: a head of our own, the client's body as it came. A long one is not copied."""
        body, served = x.request.body, x.record.served_model
        pieces: tuple[Piece, ...] = (body,)
        size = len(body)
        rest = x.rest
        if served != ask.model or ask_usage or rest is not None or x.shape is not None:
            more = rest.edits if rest is not None else as_stream(body) if x.shape is not None else ()
            pieces = body_for(body, ask, served or ask.model, ask_usage=ask_usage, more=more)
            size = sum(map(len, pieces))
        method, trace = ask.envelope.method, x.record.trace
        lines = ask.envelope.lines if trace is None else ask.envelope.untraced + trace.lines(lease or x.lease)
        before, after = pool.head if method == b"POST" else pool.head_of(method)
        long = size > _LONG_BODY_BYTES
        data = b"%b%b%b%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n%b" % (
            before,
            ask.envelope.target,
            after,
            lines,
            size,
            x.request_id,
            b"" if long else b"".join(pieces),
        )
        return (data, *pieces) if long else (data,)

    def _send(
        self, x: Exchange, ask: Ask, pool: Pool, outbound: Outbound, data: tuple[Piece, ...], now_s: float
    ) -> Relay[Exchange]:
        """Send the request; what comes of it is to be awaited from the relay."""
        timeouts = self._force.settings.timeouts
        until_s = now_s + timeouts.answer
        due_s = now_s + timeouts.first_token if ask.stream or x.shape is not None else until_s
        relay_of: Callable[..., Relay[Exchange]] = Relay
        if x.shape is not None:
            relay_of = partial(AssemblingRelay, shape=x.shape, until_s=until_s, gap_s=timeouts.token_gap)
        x.relay = relay = self._relay(relay_of, x, ask, pool, outbound, now_s, due_s)
        outbound.send(data, relay)
        return relay

    def send_beside(self, x: Exchange, hedge: Hedge, outbound: Outbound, now_s: float) -> None:
        """Send the request a second time, to the backend of ``hedge``. Raises ConnectionResetError."""
        ask, pool = x.ask, hedge.pool
        assert ask is not None
        usage = pool.takes_usage_option is True and asks_for_usage(ask)
        data = self._upstream_bytes(x, ask, pool, ask_usage=usage, lease=hedge.lease)
        due_s = now_s + self._force.settings.timeouts.first_token
        relay = self._relay(Second, x, ask, pool, outbound, now_s, due_s)
        relay.hedge, hedge.relay = hedge, relay
        if hedge.followed:
            x.relay = relay
        outbound.send(data, relay)

    def _relay(
        self,
        relay_of: Callable[..., R],
        x: Exchange,
        ask: Ask,
        pool: Pool,
        outbound: Outbound,
        now_s: float,
        due_s: float,
    ) -> R:
        """The reader of an attempt's answer; its first token is due at ``due_s``, or when the client says."""
        if x.envelope.timeout_s is not None and x.rest is None:
            due_s = min(due_s, x.arrival_s + x.envelope.timeout_s)
        self._deadlines.note(due_s)
        return relay_of(
            self,
            x,
            ask,
            x.answer,
            pool,
            outbound,
            self._deadlines,
            now_s,
            due_s - now_s,
            asked_bytes=len(x.request.body),
            hides_usage=ask.stream and not shows_usage(ask),
            seam=self._continuing.seam(x, ask) if x.rest is not None else None,
        )

    def _end(self, x: Exchange, lease: Lease, pool: Pool, end: AttemptEnd, *, hedge: bool = False) -> None:
        """Whatever happened: the lease ends here, health, estimator and limits are told, and the attempt is noted."""
        relay, x.lease, usage = x.relay, None, None
        outcome = end.outcome
        if relay is not None:
            if not relay.is_set:
                relay.abort()
            if relay.committed:
                if x.answer.events:
                    relay.tally()
                    x.answer.spoke_s = relay.spoke_s
                if not lease.request.light:  # a response that is shown tells the usage of when it was made
                    usage = relay.usage
                    x.usage = usage if relay.seam is None or usage is None else relay.seam.usage(usage)
                x.record.reply_bytes = x.answer.delivered_bytes
        x.charge = CONSEQUENCES[outcome].charge if x.rest is None or outcome is _OK else Charge.DELIVERED
        self.note(x, lease, pool, end, relay, usage, hedge=hedge)

    def note(
        self,
        x: Exchange,
        lease: Lease,
        pool: Pool,
        end: AttemptEnd,
        relay: Relay[Exchange] | None,
        usage: Usage | None = None,
        *,
        hedge: bool,
    ) -> None:
        """End the lease, and put the attempt into the record."""
        outcome, status, head_s = end.outcome, end.status, None
        if relay is not None:
            status = status or relay.status
            head_s = relay.head_s
        now_s, began_s, first_token_s = clock.monotonic_s(), lease.started_s, lease.first_token_s
        if self.hedges.on and first_token_s is None and outcome is not Outcome.CLIENT_GONE:
            self.hedges.lost(lease, now_s)
        self._fleet.end(lease, outcome, now_s, usage, retry_after_s=end.retry_after_s)
        x.record.attempts.append(
            AttemptRecord(
                lease.backend,
                pool.region,
                began_s - x.arrival_s,
                _WORDS[outcome],
                None if first_token_s is None else first_token_s - began_s,
                lease.predicted_ttft_s,
                status or None,
                "hedge"
                if hedge
                else "first"
                if not lease.retry
                else "continue"
                if lease.request.continues
                else "retry",
                now_s - began_s,
                end.detail or None,
                pool.fault,
                None if hedge else x.connect_s,
                None if head_s is None else head_s - began_s,
                None if x.record.trace is None else x.record.trace.ended(lease),
            )
        )
        self._waiting.offer_soon()

    # the answer begins

    def begin(self, whose: Exchange, relay: Relay[Exchange], length: int | None) -> bytes:
        """The first content token, or a whole answer, is here: from now on the client is being answered. Returns the
        head of its answer."""
        x = whose
        if x.hedge is not None:
            x.hedge.begins(relay)
        lease, record = x.lease, x.record
        assert lease is not None
        now_s = clock.monotonic_s()
        if length is None:
            if relay.is_stream:
                self._fleet.first_token(lease, now_s)
                if self.hedges.on:
                    self.hedges.came(lease, now_s)
            timeouts = self._force.settings.timeouts
            self._deadlines.note(relay.be_patient(now_s, timeouts.token_gap, timeouts.answer))
        lines = x.answer.framing(length, closing=self.closing, bodiless=relay.status == 204)
        if record.served_model is not None and record.served_model != record.model:
            lines += b"x-router-model: %b\r\n" % record.served_model.encode("latin-1", "replace")
        if x.reservation is not None:
            lines += responses.rate_limit_lines(x.reservation)
        if length is not None and x.key is not None and x.key.plan.show_cost:
            lines += cost_line(x, relay, self._force.settings.prices)
        if x.envelope.origin is not None:
            lines += self._force.settings.cors.lines(x.envelope.origin)
        if x.envelope.kind is StreamKind.RESPONSES:
            self._keep(x, lease, relay)
        if relay.is_stream:
            relay.transcript = self._continuing.open(x, relay.pool.spec.engine)
            relay.guard = x.guard = self._loops.guard_of(x)
            record.ttft_s = now_s - x.arrival_s
        record.first_byte_s = now_s - x.arrival_s
        record.status = relay.status
        return responses.answer_head(
            relay.status,
            self.date.line,
            relay.passed.lines if length is not None else relay.passed.stream_lines,
            lines,
            x.request_id,
            relay.pool.stamp,
            len(record.attempts) + 1,
            record.wait_s,
            now_s - lease.started_s,
        )

    def go_on(self, whose: Exchange, relay: Relay[Exchange]) -> None:
        """The first content token of the rest is here."""
        lease, transcript = whose.lease, whose.transcript
        assert lease is not None
        assert transcript is not None
        now_s = clock.monotonic_s()
        self._fleet.first_token(lease, now_s)
        timeouts = self._force.settings.timeouts
        self._deadlines.note(relay.be_patient(now_s, timeouts.token_gap, timeouts.answer))
        relay.transcript, relay.guard = transcript, whose.guard
        if whose.envelope.shows_legs:
            whose.answer.write(b": router continued in %b\n\n" % lease.backend.encode())

    def end_mark(self, whose: Exchange, relay: Relay[Exchange], *, framed: bool) -> None:
        """An engine that ends its answer in good order without the mark has none. One that goes on with the answer of
        another, or died before the mark, owes the client what is missing."""
        seam, usage = relay.seam, relay.usage
        if usage is not None and (seam is not None or not framed):
            self._continuing.end(whose, usage if seam is None else seam.usage(usage))

    def may_move(self, whose: Exchange) -> bool:
        return self._continuing.may_move(whose)

    def repeats(self, whose: Exchange, relay: Relay[Exchange], period_bytes: int) -> bool:
        return self._loops.noticed(whose, relay, period_bytes)

    def _keep(self, x: Exchange, lease: Lease, relay: Relay[Exchange]) -> None:
        """The client is about to learn the id of a response: note who keeps it."""
        ttl_s = self._force.settings.config.responses.ttl_s
        if x.key is not None and ttl_s > 0:
            self._keepers.remember(x.key.tenant, relay.beginning, Keeper(lease.backend, lease.request.model), ttl_s)


def _has_all(x: Exchange) -> bool:
    """The client that has left took the whole answer with it."""
    return x.relay is not None and x.relay.said_all


def _judge_again(end: AttemptEnd) -> None:
    """The request for the rest of an answer is the router's: whoever finds fault with it cannot continue the answer.
    The client's own was good, for its answer had begun."""
    if end.outcome is Outcome.CLIENT_ERROR:
        end.outcome, end.objection = Outcome.UNSUPPORTED, None
        end.detail = f"did not continue the answer of another backend: status {end.status}"
