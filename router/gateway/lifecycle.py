"""The path of one request. Read this file first; ``serve`` is the table of ARCHITECTURE.md, line by line.

Up to the first content token every failure of a backend is invisible: the request is decided again without that
backend. From the first token on there is no silent retry. Whatever happens, settle and record run exactly once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from router import clock
from router.config import Config, TimeoutsSection, TokensSection
from router.core.admission import WaitQueue
from router.core.backend import Backend
from router.core.course import Course, Stop
from router.core.decisions import Dispatch, Reject, RejectReason, Wait
from router.core.fleet import Fleet
from router.core.outcomes import CONSEQUENCES, Charge, Outcome
from router.core.policy import Policy
from router.core.sse import StreamKind
from router.core.tokens import TokenEstimator, charged
from router.core.types import Lease, Priority, Request, Rng, Usage
from router.errors import RouterError
from router.gateway import ingress, responses
from router.gateway.aliases import Aliases
from router.gateway.auth import Authenticator
from router.gateway.cors import Cors
from router.gateway.error_shapes import error_body, error_event
from router.gateway.exchange import ClientGone, Exchange
from router.gateway.failures import error_of_end, error_of_reject, unknown_model
from router.gateway.ingress import Ask, Kept
from router.gateway.keepers import Keeper, Keepers, gone
from router.gateway.poison import Poison
from router.gateway.relay import Relay
from router.gateway.steps import LONG_BODY_BYTES, Turns
from router.gateway.upstream_body import asks_for_usage, body_for, refuses_the_option, wants_usage
from router.gateway.waiting import Place
from router.store.base import Key, Refusal, Reservation, Store
from router.tasks import spawn
from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.sink import Telemetry
from router.upstream.classify import DELIVERED, AttemptEnd
from router.upstream.pool import ConnectError, Pool, Pools
from router.wire.outbound import Outbound, Piece

_log = logging.getLogger("router.gateway")

_INFINITE_S = float("inf")
_NO_TOKENS = Usage()
_GONE = AttemptEnd(Outcome.CLIENT_GONE)
_OK = Outcome.OK
_ACTUAL, _DELIVERED, _REFUND = Charge.ACTUAL, Charge.DELIVERED, Charge.REFUND
_WORDS = {outcome: outcome.value for outcome in Outcome}
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}
#: Statuses of an engine that does not understand what it is asked.
_NOT_UNDERSTOOD = frozenset({400, 422})
#: A body longer than this is written beside its head, not copied behind it.
_LONG_BODY_BYTES = 16 * 1024

_ANSWER_HEAD = (
    b"%b%b%b%bx-request-id: %b\r\n%bx-router-attempts: %d\r\nserver-timing: wait;dur=%.2f, upstream;dur=%.2f\r\n\r\n"
)


@dataclass(slots=True)
class Settings:
    """What a configuration gives the request path; replaced whole by a reload."""

    config: Config
    authenticator: Authenticator
    aliases: Aliases
    policies: dict[str, Policy]
    cors: Cors = field(init=False)
    policy: Policy = field(init=False)  # where the client asks for no other
    timeouts: TimeoutsSection = field(init=False)
    prices: TokensSection = field(init=False)

    def __post_init__(self) -> None:
        self.policy = self.policies[self.config.router.policy]
        self.timeouts = self.config.timeouts
        self.cors = Cors(self.config.cors.origins)
        self.prices = self.config.tokens


class Lifecycle:
    """Serves requests. All state is handed in; what a reload changes is in ``settings``."""

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
        self.settings = settings
        self.fleet = fleet
        self._store = store
        self._pools = pools
        self._telemetry = telemetry
        self._queue = queue
        self._rng = rng
        self._tokens = TokenEstimator()
        self.keepers = Keepers(store)
        self.date = responses.DateHeader(clock.wall_s())
        self._poison = Poison(store, self._is_well)
        #: called with the name of a backend that denies a model it was believed to have
        self.ask_models: Callable[[str], object] = str
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(self._loop)
        self._next_due_s = _INFINITE_S  # no relay's patience is over before
        self.coarse_now_s = clock.monotonic_s()  # as of the last sweep
        self.live: set[Exchange] = set()
        self.closing = False

    async def serve(self, x: Exchange) -> None:
        """From the last byte of the request to its record."""
        try:
            x.key = key = self.settings.authenticator.key_of(x.envelope.secret)
            body, prices = x.request.body, self.settings.prices
            if len(body) <= LONG_BODY_BYTES:
                x.ask = ask = ingress.read(x.envelope, body, prices)
            else:
                x.ask = ask = await self._turns.read(ingress.read_long(x.envelope, body, prices))
            x.need = need = self._understand(x, key, ask) if ask.kept is None else await self._follow(x, key, ask)
            x.reservation = self._reserve_now(x, key, need) or await self._reserve(x, key, need)
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
                self._settle(x)
            finally:
                self._finish(x)
                self._telemetry.request_done(x.record)

    # 3: what is asked

    def _understand(self, x: Exchange, key: Key, ask: Ask) -> Request:
        """Turn the ask into the core's words and note it in the record."""
        envelope, record = ask.envelope, x.record
        if envelope.policy is not None and not self._may_choose(envelope.policy):
            raise RouterError("invalid_request", "x-router-policy is not allowed here or names no policy.")
        need = self.need_of(key, ask, record.request_id, x.arrival_s)
        record.key_id, record.tenant, record.plan = key.id, key.tenant, key.plan.name
        record.model, record.stream, record.trace_id = ask.model, ask.stream, envelope.trace_id
        record.client_region = envelope.client_region
        record.priority = key.plan.priority if envelope.priority is None else need.priority.name.lower()
        if need.residency is not None:
            record.residency = tuple(sorted(need.residency))
        record.prompt_tokens, record.max_output_tokens = need.prompt_tokens, need.max_output_tokens
        record.prefix_blocks, record.tokens_per_block = ask.blocks, need.tokens_per_block
        return need

    async def _follow(self, x: Exchange, key: Key, ask: Ask) -> Request:
        """Understand a request that only one backend can serve: it continues or asks about what that one keeps."""
        kept = ask.kept
        assert kept is not None
        finding = self.keepers.find(key.tenant, kept.id)
        keeper = await spawn(finding, name=f"find keeper for {x.record.request_id}", expected=(RouterError,))
        backend = None if keeper is None else self.fleet.backends.get(keeper.backend)
        if keeper is None or backend is None:
            if self._may_go_anywhere(kept):
                return self._understand(x, key, ask)
            raise gone(kept)
        if kept.param is None:
            ask.model = keeper.model
        elif not self._keeps_model(backend, self._models_of(ask, keeper)):
            raise gone(kept)
        x.keeper = keeper
        need = self._understand(x, key, ask)
        need.pin_backend = keeper.backend
        if kept.param is None:  # nothing is computed
            need.light = True
            need.prompt_tokens = need.max_output_tokens = x.record.prompt_tokens = x.record.max_output_tokens = 0
        return need

    def _keeps_model(self, backend: Backend, models: tuple[str, ...]) -> bool:
        """False: others serve these models, and this backend does not."""
        if backend.models is None or any(map(backend.serves, models)):
            return True
        return not any(model in self.fleet.models() for model in models)

    def _may_go_anywhere(self, kept: Kept) -> bool:
        """Conversations may be made elsewhere; and nothing is known when no notes are made."""
        return kept.param == "conversation" or (kept.param is not None and self.settings.config.responses.ttl_s <= 0)

    def _models_of(self, ask: Ask, keeper: Keeper | None) -> tuple[str, ...]:
        """The models to try, in order. Who continues a response stays with the model that made it, if it may."""
        if keeper is not None and self.settings.aliases.may_be(ask.model, keeper.model):
            return (keeper.model,)
        return self.settings.aliases.route(ask.model, self._rng)

    def _may_choose(self, policy: str) -> bool:
        return self.settings.config.router.policy_header and policy in self.settings.policies

    def need_of(self, key: Key, ask: Ask, request_id: str, arrival_s: float) -> Request:
        """The request as the core sees it: the key's plan and the ask narrow each other down."""
        envelope, plan = ask.envelope, key.plan
        residency = envelope.residency
        if plan.residency:
            allowed = frozenset(plan.residency)
            residency = allowed if residency is None else allowed & residency
        priority = _PRIORITIES[plan.priority]
        if envelope.priority is not None:
            priority = max(priority, envelope.priority)  # a request may stand back, never push forward
        if envelope.counting:
            prompt_tokens = output_tokens = 0
        else:
            prompt_tokens, output_tokens = self._tokens.estimate(key.id, ask.model, ask.prompt_bytes, ask.max_tokens)
            prompt_tokens += ask.item_tokens
        return Request(
            request_id,
            ask.model,
            key.tenant,
            prompt_tokens,
            ask.choices * output_tokens,
            () if envelope.counting else ask.blocks,
            prompt_tokens * ingress.PREFIX_BLOCK_BYTES / ask.prefix_bytes if ask.blocks else 0.0,
            residency,
            envelope.pin_region,
            envelope.affinity,
            priority,
            arrival_s,
            arrival_s + envelope.timeout_s if envelope.timeout_s is not None else _INFINITE_S,
            ask.stream,
            light=envelope.counting,
        )

    # 4: reserve

    def _reserve_now(self, x: Exchange, key: Key, need: Request) -> Reservation | None:
        """From what this router may give by itself. None: the store must be asked."""
        tokens, microusd = self._cost_of(need)
        taken = self._store.reserve_now(key, tokens, need.request_id, x.arrival_s, microusd=microusd)
        return self._allowed(x, taken) if isinstance(taken, Refusal) else taken

    def _cost_of(self, need: Request) -> tuple[int, int]:
        microusd = self.settings.aliases.microusd(need.model, need.prompt_tokens, need.max_output_tokens)
        return need.prompt_tokens + need.max_output_tokens, microusd

    async def _reserve(self, x: Exchange, key: Key, need: Request) -> Reservation:
        """One script call in a task of its own. If the client leaves meanwhile, what was taken is given back."""
        tokens, microusd = self._cost_of(need)
        asking = self._store.reserve(key, tokens, need.request_id, microusd=microusd)
        task = spawn(asking, name=f"reserve {need.request_id}")
        try:
            taken = await task
        except BaseException:
            task.add_done_callback(self._give_back)
            raise
        return self._allowed(x, taken)

    def _give_back(self, task: asyncio.Task[Reservation | Refusal]) -> None:
        if not task.cancelled() and task.exception() is None and isinstance(taken := task.result(), Reservation):
            self._store.settle(taken, None)

    def _allowed(self, x: Exchange, taken: Reservation | Refusal) -> Reservation:
        if isinstance(taken, Reservation):
            return taken
        x.record.limit = taken.limit
        if taken.limit == "store":
            raise RouterError("store_unavailable", taken.detail, retry_after_s=taken.retry_after_s)
        raise RouterError(
            "quota_exhausted",
            taken.detail,
            retry_after_s=taken.retry_after_s,
            # OpenAI's clients give up by themselves beyond two minutes; tell the others
            should_retry=taken.retry_after_s is not None and taken.retry_after_s <= 120,
            headers=responses.header_pairs(responses.rate_limit_lines(taken)),
        )

    # 5 to 9: decide, wait, attempt, commit, relay

    async def _answer(self, x: Exchange, ask: Ask, need: Request) -> None:
        """Follow the course of the request until one attempt has answered. Raises RouterError when none can."""
        x.trial = self._poison.admit(x.request.body, x.arrival_s)
        settings, chosen, record = self.settings, x.envelope.policy, x.record
        policy = settings.policy if chosen is None else settings.policies[chosen]
        x.course = course = Course(self.fleet, policy, need, self._models_of(ask, x.keeper))
        record.policy = policy.name
        if x.trial is not None:
            course.deaths = self.fleet.params.deaths_max - 1
        failure: AttemptEnd | None = None
        while True:
            now_s = clock.monotonic_s()
            decision = course.next(now_s, self._rng)
            record.served_model, record.candidates = need.model, decision.candidates
            if isinstance(decision, Dispatch):
                failure = await self._attempt(x, ask, decision.lease, now_s)
                if failure.outcome is _OK:
                    return
                self._failed(x, course, decision.lease.backend, failure)
            elif isinstance(decision, Wait):  # after a failure, too: for a backend that it was not at yet
                await self._wait(x, course, decision)
            else:
                raise self._rejection(x, failure, decision)

    def _failed(self, x: Exchange, course: Course, backend: str, end: AttemptEnd) -> None:
        """Note the failure of an attempt. Raises RouterError when there is to be no other."""
        now_s = clock.monotonic_s()
        stop = course.failed(backend, end.outcome, now_s, died=end.died, begun=x.answered, unsent=end.unsent)
        if end.outcome is Outcome.MODEL_MISSING:
            self.ask_models(backend)
        if stop is Stop.DEADLY:
            told = course.request.residency is None  # of the others not even hashes leave
            self._poison.killed(x.request.body, course.tried, now_s, trial=x.trial, told=told)
        if stop is not None:
            raise self._upstream_error(x, end, backend)

    async def _wait(self, x: Exchange, course: Course, decision: Wait) -> None:
        """Until a place is free. Raises RouterError (admission_full, wait_expired)."""
        began_s = clock.monotonic_s()
        place = Place(course)
        if not self._queue.push(course.request, began_s, place, kind=course.kind, until_s=decision.until_s):
            raise RouterError("admission_full", retry_after_s=self._queue.expected_wait_s(began_s), should_retry=True)
        try:
            free = await place
        finally:
            x.record.wait_s += clock.monotonic_s() - began_s
            self._queue.remove(place)
        if not free:
            again_s = self._queue.expected_wait_s(clock.monotonic_s())
            raise RouterError("wait_expired", retry_after_s=again_s, should_retry=True)

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._queue)

    def offer_places(self) -> None:
        """Something ended: let those who wait try again, as many as there are places."""
        now_s = clock.monotonic_s()
        for place in self._queue.expire(now_s):
            place.set(False)
        for _ in range(len(self._queue)):
            free = self._queue.pop(now_s, lambda place: place.course.fits(now_s, self._rng))
            if free is None:
                return
            free.set(True)  # the request decides, and takes its place, before this returns

    async def _attempt(self, x: Exchange, ask: Ask, lease: Lease, now_s: float) -> AttemptEnd:
        """One try on one backend, from the lease to its end."""
        pool = self._pools[lease.backend]
        x.lease, x.relay = lease, None
        end = _GONE  # unless the attempt comes to an end of its own
        try:
            asked = ask.stream and pool.takes_usage_option is not False and asks_for_usage(ask)
            data = self._upstream_bytes(x, ask, pool, ask_usage=asked)
            outbound = pool.take(now_s) or await self._connect(pool)
            end = await self._send(x, ask, pool, outbound, data, now_s)
            if end.stale:  # a pooled connection was closed under us: nothing is lost but a moment
                end = await self._send(x, ask, pool, await self._connect(pool), data, now_s)
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
            end, x.keep_alive = DELIVERED, False
        finally:
            self._end_attempt(x, lease, pool, end)
        return end

    async def _without_option(self, x: Exchange, ask: Ask, pool: Pool, end: AttemptEnd, now_s: float) -> AttemptEnd:
        """The stream was asked for its usage. An engine that may not know the option gets the client's own body."""
        known = pool.takes_usage_option
        if end.outcome is _OK:
            pool.takes_usage_option = True
        elif end.status in _NOT_UNDERSTOOD and (refuses_the_option(end.body) or (known is None and end.unexplained)):
            data = self._upstream_bytes(x, ask, pool, ask_usage=False)
            end = await self._send(x, ask, pool, pool.take(now_s) or await self._connect(pool), data, now_s)
            if end.status not in _NOT_UNDERSTOOD:
                pool.takes_usage_option = False
                _log.info(
                    "backend %s does not take stream_options: streams are charged by their events", pool.spec.name
                )
        return end

    async def _connect(self, pool: Pool) -> Outbound:
        """A new connection, made in a task of its own. If the client leaves meanwhile, it is kept for the next one."""
        connecting = pool.connect(self.settings.timeouts.connect)
        task = spawn(connecting, name=f"connect {pool.spec.name}", expected=(ConnectError,))
        try:
            return await task
        except BaseException:
            task.add_done_callback(pool.keep_for_later)
            raise

    def _upstream_bytes(self, x: Exchange, ask: Ask, pool: Pool, *, ask_usage: bool) -> tuple[Piece, ...]:
        """The request for the backend: a head of our own, the client's body as it came. A long one is not copied."""
        body, served = x.request.body, x.record.served_model
        pieces: tuple[Piece, ...] = (body,)
        size = len(body)
        if served != ask.model or ask_usage:
            pieces = body_for(body, ask, served or ask.model, ask_usage=ask_usage)
            size = sum(map(len, pieces))
        method = ask.envelope.method
        before, after = pool.head if method == b"POST" else pool.head_of(method)
        long = size > _LONG_BODY_BYTES
        data = b"%b%b%b%bcontent-length: %d\r\nx-request-id: %b\r\n\r\n%b" % (
            before,
            ask.envelope.target,
            after,
            ask.envelope.lines,
            size,
            x.request_id,
            b"" if long else b"".join(pieces),
        )
        return (data, *pieces) if long else (data,)

    def _send(
        self, x: Exchange, ask: Ask, pool: Pool, outbound: Outbound, data: tuple[Piece, ...], now_s: float
    ) -> Relay:
        """Send the request; what comes of it is to be awaited from the relay."""
        timeouts = self.settings.timeouts
        due_s = now_s + (timeouts.first_token if ask.stream else timeouts.answer)
        if x.envelope.timeout_s is not None:
            due_s = min(due_s, x.arrival_s + x.envelope.timeout_s)
        if due_s < self._next_due_s:
            self._next_due_s = due_s
        hides = ask.stream and not (ask.stream_options and wants_usage(ask))
        x.relay = relay = Relay(self, x, ask, pool, outbound, now_s, due_s - now_s, hides_usage=hides)
        outbound.send(data, relay)
        return relay

    def _end_attempt(self, x: Exchange, lease: Lease, pool: Pool, end: AttemptEnd) -> None:
        """Whatever happened: the lease ends here, health, estimator and limits are told, and the attempt is noted."""
        relay, x.lease, status = x.relay, None, None
        if relay is not None:
            if not relay.is_set:
                relay.abort()
            if relay.committed:
                if not lease.request.light:  # a response that is shown tells the usage of when it was made
                    x.usage = relay.usage
                x.record.reply_bytes = relay.delivered_bytes
            status = end.status or relay.status or None
        outcome = end.outcome
        x.charge = CONSEQUENCES[outcome].charge
        now_s, began_s, first_token_s = clock.monotonic_s(), lease.started_s, lease.first_token_s
        self.fleet.end(lease, outcome, now_s, x.usage, retry_after_s=end.retry_after_s)
        x.record.attempts.append(
            AttemptRecord(
                lease.backend,
                pool.region,
                began_s - x.arrival_s,
                _WORDS[outcome],
                None if first_token_s is None else first_token_s - began_s,
                lease.predicted_ttft_s,
                status,
                "retry" if lease.retry else "first",
                now_s - began_s,
                end.detail or None,
            )
        )
        if len(self._queue):
            self._loop.call_soon(self.offer_places)

    # 8: commit

    def commit(self, x: Exchange, relay: Relay, length: int | None) -> bytes:
        """The first content token is here: from now on the client has an answer. Returns its head."""
        lease, record, head = x.lease, x.record, x.request.head
        assert lease is not None
        now_s = clock.monotonic_s()
        if length is None:
            if relay.is_stream:
                self.fleet.first_token(lease, now_s)
            timeouts = self.settings.timeouts
            due_s = relay.be_patient(now_s, timeouts.token_gap, timeouts.answer)
            self._next_due_s = min(self._next_due_s, due_s)
            framing = b"transfer-encoding: chunked\r\n" if head.http11 else b""
            x.keep_alive = head.keep_alive and head.http11
        else:
            framing = b"content-length: %d\r\n" % length if relay.status != 204 else b""
            x.keep_alive = head.keep_alive
        if not x.keep_alive or self.closing:
            framing += b"connection: close\r\n"
        elif not head.http11:
            framing += b"connection: keep-alive\r\n"
        if record.served_model is not None and record.served_model != record.model:
            framing += b"x-router-model: %b\r\n" % record.served_model.encode("latin-1", "replace")
        if x.reservation is not None:
            framing += responses.rate_limit_lines(x.reservation)
        if x.envelope.origin is not None:
            framing += self.settings.cors.lines(x.envelope.origin)
        if x.envelope.kind is StreamKind.RESPONSES:
            self._keep(x, lease, relay)
        record.ttft_s = now_s - x.arrival_s
        record.status = relay.status
        x.answered = True
        return _ANSWER_HEAD % (
            responses.status_line(relay.status),
            self.date.line,
            relay.passed.lines if length is not None else relay.passed.stream_lines,
            framing,
            x.request_id,
            relay.pool.stamp,
            len(record.attempts) + 1,
            record.wait_s * 1000,
            (now_s - lease.started_s) * 1000,
        )

    def _keep(self, x: Exchange, lease: Lease, relay: Relay) -> None:
        """The client is about to learn the id of a response: note who keeps it."""
        ttl_s = self.settings.config.responses.ttl_s
        if x.key is not None and ttl_s > 0:
            self.keepers.remember(x.key.tenant, relay.beginning, Keeper(lease.backend, lease.request.model), ttl_s)

    def shorten(self, relay: Relay, patience_s: float) -> None:
        """The relay has less time from now on."""
        self._next_due_s = min(self._next_due_s, relay.be_patient(clock.monotonic_s(), patience_s))

    # what follows a failure

    def _upstream_error(self, x: Exchange, end: AttemptEnd, backend: str) -> RouterError:
        """What the client is told when no other backend may be asked."""
        kept, objection = x.ask.kept if x.ask is not None else None, end.objection
        if (
            x.keeper is not None
            and kept is not None
            and end.status == 404
            and objection
            and kept.id in objection.message
        ):
            self.keepers.forget(x.record.tenant, kept.id)  # the engine has started anew, or has let it go
            return gone(kept)
        any_usable = end.outcome is Outcome.UNREACHABLE and self._any_usable(x.record.served_model or "")
        return error_of_end(end, backend, any_usable=any_usable)

    def _is_well(self, backend: str) -> bool:
        found = self.fleet.backends.get(backend)
        return found is None or not found.health.away

    def _any_usable(self, model: str) -> bool:
        now_s = clock.monotonic_s()
        return any(b.serves(model) and b.usable(now_s) for b in self.fleet.backends.values())

    def _rejection(self, x: Exchange, failure: AttemptEnd | None, rejected: Reject) -> RouterError:
        """No backend is left. A failure that was met tells the client more than "nobody is left"."""
        if failure is not None:
            return self._upstream_error(x, failure, x.record.attempts[-1].backend)
        if rejected.reason is RejectReason.UNKNOWN_MODEL:
            names = {*self.fleet.models(), *self.settings.aliases.names()}
            return unknown_model(x.record.model or "", names)
        return error_of_reject(rejected)

    def _refuse(self, x: Exchange, error: RouterError) -> None:
        """The request ends with an error: as an answer, or in band if the answer has begun."""
        record = x.record
        record.error = error.code
        record.cause = record.attempts[-1].outcome if record.attempts else "refused"
        if x.answered:
            if x.relay is not None and x.relay.is_stream:
                x.relay.write_in_band(error_event(error, x.envelope.dialect, x.request_id))
            x.keep_alive = False  # the answer is not whole, and its framing must say so too
            return
        record.status = error.status
        lines = [b"x-request-id: %b\r\n" % x.request_id, *responses.error_headers(error)]
        if x.envelope.origin is not None:
            lines.append(self.settings.cors.lines(x.envelope.origin))
        body = error_body(error, x.envelope.dialect, x.request_id)
        if record.attempts:
            last = record.attempts[-1]
            lines.append(
                b"x-router-region: %b\r\nx-router-backend: %b\r\nx-router-attempts: %d\r\n"
                % (last.region.encode(), last.backend.encode(), len(record.attempts))
            )
        x.keep_alive = x.request.head.keep_alive
        x.answered = True
        record.reply_bytes = len(body)
        x.inbound.write(
            responses.plain(
                record.status,
                body,
                date=self.date,
                keep_alive=x.keep_alive and not self.closing,
                http11=x.request.head.http11,
                lines=lines,
            )
        )

    def _client_gone(self, x: Exchange) -> None:
        x.record.error, x.record.cause = "client_gone", Outcome.CLIENT_GONE.value
        if not x.answered:
            x.record.status = 499

    # 10, 11: settle and record

    def _settle(self, x: Exchange) -> None:
        """Charge what was used, and learn from it."""
        usage, record, reservation, ask = x.usage, x.record, x.reservation, x.ask
        if record.ttft_s is not None and ask is not None and x.key is not None:
            if ask.envelope.counting:
                usage = _NO_TOKENS
            elif usage is None or not usage.reported or not usage.prompt_tokens:
                usage = self._counted(x.key, ask, record, usage)
            elif x.charge is _ACTUAL:
                self._tokens.learn(x.key.id, ask.model, None if ask.item_tokens else ask.prompt_bytes, usage)
        if usage is not None:
            record.output_tokens, record.usage_reported = usage.output_tokens, usage.reported
            record.cached_tokens = usage.cached_tokens
            if usage.prompt_tokens:
                record.prompt_tokens = usage.prompt_tokens
        if reservation is None:
            return
        if x.charge is _REFUND or (x.charge is _DELIVERED and usage is None and x.relay is None):
            self._store.settle(reservation, None)
            return
        # Who leaves before the answer pays for the prompt, once a backend has it: it may have been computed.
        prompt, output = record.prompt_tokens, record.output_tokens
        microusd = self.settings.aliases.microusd(record.model or "", prompt, output)
        if not microusd and prompt + output and x.key is not None and x.key.plan.budget_usd_month is not None:
            self.settings.aliases.say_unpriced(record.model or "", x.key.plan.name)
        self._store.settle(reservation, prompt + output, microusd=microusd)

    def _counted(self, key: Key, ask: Ask, record: Record, usage: Usage | None) -> Usage:
        """The tokens of an answer that has begun, and says nothing or not enough about them."""
        text_bytes = record.reply_bytes if ask.envelope.writes else 0
        bytes_per_token = self._tokens.bytes_per_token(key.id, ask.model)
        found = charged(usage, record.prompt_tokens, text_bytes, bytes_per_token)
        if ask.max_tokens is not None and not found.reported:  # there cannot be more
            found.output_tokens = min(found.output_tokens, ask.choices * ask.max_tokens)
        return found

    def _finish(self, x: Exchange) -> None:
        self.live.discard(x)
        x.relay = None
        if x.trial is not None:
            attempts = x.record.attempts
            answered = bool(attempts) and attempts[-1].outcome == _WORDS[_OK]
            self._poison.release(x.trial, clock.monotonic_s(), answered=answered)
        x.record.duration_s = clock.monotonic_s() - x.arrival_s
        x.inbound.finish(x.keep_alive and not self.closing)

    # what others cause

    def sweep(self) -> None:
        """Time-driven work, many times a second."""
        self.coarse_now_s = now_s = clock.monotonic_s()
        self.date.at(clock.wall_s())
        if now_s >= self._next_due_s:
            self._expire_relays(now_s)
        if self.fleet.silenced:
            silenced, self.fleet.silenced = self.fleet.silenced, []
            for backend in silenced:
                self._leave(backend, "does not answer any more")
        self._pools.sweep()
        self.offer_places()

    def close_idle(self) -> None:
        """Close the connections to backends that no request uses."""
        self._pools.drop_idle()

    def _expire_relays(self, now_s: float) -> None:
        """End the relays whose patience is over, and find out when the next one's will be."""
        self._next_due_s = _INFINITE_S
        for x in list(self.live):
            relay = x.relay
            if relay is None or relay.is_set:
                continue
            due_s = relay.due_s
            if due_s <= now_s:
                relay.expire()
            elif due_s < self._next_due_s:
                self._next_due_s = due_s

    def backend_refused(self, backend: str) -> None:
        """Nobody listens there any more."""
        self._leave(backend, "refuses connections")

    def _leave(self, backend: str, detail: str) -> None:
        """What still waits for its first token from there is tried elsewhere at once, whole answers too; a stream that
        has begun goes on for as long as it is not silent."""
        for x in list(self.live):
            if x.relay is not None and x.lease is not None and x.lease.backend == backend:
                x.relay.give_up(detail)
                x.relay.doubt()


def _has_all(x: Exchange) -> bool:
    """The client that has left took the whole answer with it."""
    return x.relay is not None and x.relay.said_all
