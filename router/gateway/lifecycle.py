"""The path of one request. Read this file first; ``serve`` is the table of ARCHITECTURE.md, line by line.

Up to the first content token every failure of a backend is invisible: the request is decided again without that
backend. From the first token on there is no silent retry. Whatever happens, settle and record run exactly once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from router import clock
from router.core.admission import WaitQueue
from router.core.course import Course, Stop
from router.core.decisions import Dispatch, Reject, RejectReason, Wait
from router.core.fleet import Fleet
from router.core.outcomes import Outcome
from router.core.tokens import TokenEstimator
from router.core.traits import Continues
from router.core.types import Request, Rng
from router.errors import RouterError
from router.gateway import ingress, responses
from router.gateway.attempt import Attempts
from router.gateway.charging import Charging
from router.gateway.continuing import Continuing
from router.gateway.deadlines import Deadlines
from router.gateway.demand import Demand
from router.gateway.error_shapes import error_body, error_event
from router.gateway.exchange import ClientGone, Exchange
from router.gateway.failures import error_of_end, error_of_reject, unknown_model
from router.gateway.handover import HandOver, leave_the_dead
from router.gateway.holding import Holding
from router.gateway.ingress import Ask
from router.gateway.keepers import Keepers, gone
from router.gateway.pings import Pings
from router.gateway.poison import Poison
from router.gateway.relay import Relay
from router.gateway.settings import InForce, Settings
from router.gateway.steps import LONG_BODY_BYTES, Turns
from router.gateway.waiting import Place, WaitingRoom
from router.store.base import Key, Store
from router.telemetry.sink import Telemetry
from router.upstream.classify import AttemptEnd
from router.upstream.pool import Pools

_log = logging.getLogger("router.gateway")

_OK = Outcome.OK
#: Errors of requests that find no place: of an answer that has begun they say less than that it is cut.
_NO_PLACE = frozenset({"admission_full", "wait_expired"})


class Lifecycle:
    """Serves requests. All state is handed in; what a reload changes is in ``force.settings``."""

    def __init__(
        self,
        settings: Settings,
        *,
        fleet: Fleet,
        store: Store,
        pools: Pools,
        telemetry: Telemetry,
        queue: WaitQueue[Place],
        rng: Rng,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.force = force = InForce(settings)
        self.fleet = fleet
        self._pools = pools
        self._telemetry = telemetry
        self._rng = rng
        self.date = responses.DateHeader(clock.wall_s())
        self.live: set[Exchange] = set()
        self.waiting = WaitingRoom(queue, rng, loop)
        self.holding = Holding(force, fleet, self.date, rng, loop)
        self.tokens = TokenEstimator(fleet.params)
        self._keepers = Keepers(store)
        self.poison = Poison(store, self._is_well)
        self._turns = Turns(loop)
        self._deadlines = Deadlines()
        self.demand = Demand(force, fleet, self._keepers, self.tokens, rng)
        self._charging = Charging(force, store, fleet, self.tokens)
        self._pings = Pings()
        self._continuing = Continuing(force, self._turns, rng)
        self._attempts = Attempts(
            force,
            fleet=fleet,
            pools=pools,
            keepers=self._keepers,
            waiting=self.waiting,
            deadlines=self._deadlines,
            date=self.date,
            continuing=self._continuing,
            rng=rng,
        )
        #: called with the name of a backend that denies a model it was believed to have
        self.ask_models: Callable[[str], object] = str
        self._hand_over = HandOver(fleet, self.live, rng)
        self.closing = False

    async def serve(self, x: Exchange) -> None:
        """From the last byte of the request to its record."""
        charging, demand = self._charging, self.demand
        try:
            x.key = key = self.force.settings.authenticator.key_of(x.envelope.secret) or await self._key_soon(x)
            x.ask = ask = self._read_now(x) or await self._read(x)
            x.need = need = demand.understand(x, key, ask) if ask.kept is None else await demand.follow(x, key, ask)
            x.reservation = charging.reserve_now(x, key, need) or await charging.reserve(x, key, need)
            await self._answer(x, ask, need)
        except RouterError as error:
            self._refuse(x, error)
        except ClientGone:
            self._client_gone(x)
        except Exception:
            _log.exception("request %s failed", x.record.request_id)
            self._refuse(x, RouterError("internal"))
        finally:
            try:
                charging.settle(x)
            finally:
                self._finish(x)
                self._telemetry.request_done(x.record)

    async def _key_soon(self, x: Exchange) -> Key:
        """The store is asked for newer keys, or the issuer of a JWT for its own."""
        return await self.force.settings.authenticator.key_soon(x.envelope.secret)

    # 3: peek

    def _read_now(self, x: Exchange) -> Ask | None:
        """None: the body is long, and is read by turns."""
        body = x.request.body
        return ingress.read(x.envelope, body, self.force.settings.items) if len(body) <= LONG_BODY_BYTES else None

    async def _read(self, x: Exchange) -> Ask:
        return await self._turns.read(ingress.read_long(x.envelope, x.request.body, self.force.settings.items))

    # 5 to 9: decide, wait, attempt, commit, relay

    async def _answer(self, x: Exchange, ask: Ask, need: Request) -> None:
        """Follow the course of the request until one attempt has answered. Raises RouterError when none can."""
        x.trial = self.poison.admit(x.request.body, x.arrival_s)
        settings, chosen, record = self.force.settings, x.envelope.policy, x.record
        policy = settings.policy if chosen is None else settings.policies[chosen]
        x.course = course = Course(self.fleet, policy, need, x.models)
        record.policy = policy.name
        if x.trial is not None:
            course.suspicion = self.fleet.params.deaths_max - 1
        failure: AttemptEnd | None = None
        now_s = clock.monotonic_s()
        record.admitted_s = now_s - x.arrival_s
        while True:
            decision = course.next(now_s, self._rng)
            record.served_model, record.candidates = need.model, decision.candidates
            if isinstance(decision, Dispatch):
                backend = decision.lease.backend
                failure = await self._attempts.make(x, ask, decision.lease, now_s)
                if x.hedge is not None:  # the second attempt goes on, or has answered first
                    course.lost(backend, died=failure.died)
                    backend = x.hedge.lease.backend
                    failure = await self._attempts.follow(x, x.hedge)
                if failure.outcome is _OK or await self._failed(x, course, backend, failure):
                    return
            elif isinstance(decision, Wait) and decision.wakes:
                await self.holding.hold(x, course, decision)
            elif isinstance(decision, Wait):  # after a failure, too: for a backend that it was not at yet
                await self.waiting.wait(course, decision, record)
            else:
                raise self._rejection(x, failure, decision)
            now_s = clock.monotonic_s()

    async def _failed(self, x: Exchange, course: Course, backend: str, end: AttemptEnd) -> bool:
        """Note the failure of an attempt. Returns whether the answer is whole all the same. Raises RouterError when
        there is to be no other attempt."""
        begun, rest, events = x.answer.begun, Continues.NO, x.relay.events if x.relay is not None else 0
        if begun:
            x.record.attempts[-1].said_tokens = events or None
            rest = await self._continuing.prepare(x, end)
            if x.rest is not None and x.rest.over:
                self._continuing.close(x)
                return True
        now_s = clock.monotonic_s()
        place = events if x.shape is not None or (x.ask is not None and x.ask.stream) else None
        stop = course.failed(
            backend,
            end.outcome,
            now_s,
            died=end.died,
            unsent=end.unsent,
            begun=begun,
            rest=rest,
            events=events if begun else 0,
            place=place,
        )
        if end.outcome is Outcome.MODEL_MISSING:
            self.ask_models(backend)
        if stop is Stop.DEADLY:
            told = course.request.residency is None  # of the others not even hashes leave
            self.poison.killed(x.request.body, course.dead, now_s, trial=x.trial, told=told)
        if stop is not None:
            raise self._upstream_error(x, end, backend)
        return False

    def _upstream_error(self, x: Exchange, end: AttemptEnd, backend: str) -> RouterError:
        """The error for the client when no other backend may be asked."""
        kept, objection = x.ask.kept if x.ask is not None else None, end.objection
        missing = end.status == 404 and objection is not None and kept is not None and kept.id in objection.message
        if x.keeper is not None and kept is not None and missing:
            self._keepers.forget(x.record.tenant, kept.id)  # the engine has started anew, or has let it go
            return gone(kept)
        if x.answer.begun:
            return RouterError("stream_interrupted", f"Backend {backend} {end.detail.rstrip('.')}.")
        any_usable = end.outcome is Outcome.UNREACHABLE and self._any_usable(x.record.served_model or "")
        return error_of_end(end, backend, any_usable=any_usable)

    def _rejection(self, x: Exchange, failure: AttemptEnd | None, rejected: Reject) -> RouterError:
        """No backend is left. A failure that was met tells the client more than "nobody is left"."""
        if failure is not None:
            return self._upstream_error(x, failure, x.record.attempts[-1].backend)
        if rejected.reason is RejectReason.UNKNOWN_MODEL:
            return unknown_model(x.record.model or "", self.models_for(x.key))
        error = error_of_reject(rejected)
        x.record.refusal = error.detail
        return error

    def models_for(self, key: Key | None) -> list[str]:
        """The names that this key may ask for."""
        names = {*self.fleet.models(), *self.force.settings.aliases.names()}
        return sorted(names if key is None else filter(key.plan.permits, names))

    def _is_well(self, backend: str) -> bool:
        found = self.fleet.backends.get(backend)
        return found is None or not found.health.away

    def _any_usable(self, model: str) -> bool:
        now_s = clock.monotonic_s()
        return any(b.serves(model) and b.usable(now_s) for b in self.fleet.backends.values())

    # how it ends

    def _refuse(self, x: Exchange, error: RouterError) -> None:
        """The request ends with an error: as an answer, or in band if the answer has begun."""
        record, answer, head = x.record, x.answer, x.request.head
        if answer.begun and error.code in _NO_PLACE:
            error = RouterError("stream_interrupted", error.detail)
        record.error = error.code
        record.cause = record.attempts[-1].outcome if record.attempts else "refused"
        dialect = x.envelope.dialect
        if answer.begun or answer.opened:
            record.not_continued = self._continuing.reason_for(x, error) if answer.begun else None
            answer.break_off(error_event(error, dialect, x.request_id))
            return
        record.status = error.status
        lines = [b"x-request-id: %b\r\n" % x.request_id, *responses.error_headers(error)]
        if x.envelope.origin is not None:
            lines.append(self.force.settings.cors.lines(x.envelope.origin))
        if record.attempts:
            last = record.attempts[-1]
            lines.append(responses.stamp_lines(last.region, last.backend, len(record.attempts)))
        body = error_body(error, dialect, x.request_id)
        record.reply_bytes = len(body)
        keep_alive = head.keep_alive and not self.closing
        message = responses.plain(
            record.status,
            body,
            date=self.date,
            keep_alive=keep_alive,
            http11=head.http11,
            lines=lines,
        )
        answer.refuse(message, body_bytes=len(body), keep_alive=keep_alive)

    def _client_gone(self, x: Exchange) -> None:
        x.record.error, x.record.cause = "client_gone", Outcome.CLIENT_GONE.value
        if not x.answer.begun:
            x.record.status = 499

    def _finish(self, x: Exchange) -> None:
        self.live.discard(x)
        if x.hedge is not None:
            self._attempts.hedges.client_gone(x)
        x.relay = None
        if x.trial is not None:
            attempts = x.record.attempts
            answered = bool(attempts) and attempts[-1].outcome == _OK.value
            self.poison.release(x.trial, clock.monotonic_s(), answered=answered)
        x.record.duration_s = clock.monotonic_s() - x.arrival_s
        x.answer.inbound.finish(x.answer.keep_alive)

    # what others cause

    def say_goodbye(self) -> None:
        """From now on every answer says that its connection will be closed."""
        self.closing = self._attempts.closing = True

    def sweep(self) -> None:
        """Time-driven work, many times a second."""
        now_s = clock.monotonic_s()
        self.date.at(clock.wall_s())
        self._deadlines.sweep(now_s, self._relays)
        if silenced := self.fleet.take_silenced():
            for backend in silenced:
                leave_the_dead(self.live, backend, "does not answer any more")
        self._hand_over.sweep(now_s)
        self._attempts.hedges.sweep(now_s)
        self._pings.sweep(self.live, now_s)
        self._pools.sweep()
        self.waiting.offer()
        self.holding.sweep(now_s)

    def _relays(self) -> list[Relay[Exchange] | None]:
        return [x.relay for x in self.live]

    def close_idle(self) -> None:
        """Close the connections to backends that no request uses."""
        self._pools.drop_idle()

    def backend_refused(self, backend: str) -> None:
        """Nobody listens there any more."""
        leave_the_dead(self.live, backend, "refuses connections")
