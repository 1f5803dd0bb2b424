"""The path of one request. Read this file first; ``serve`` is the table of ARCHITECTURE.md, line by line.

Up to the first content token every failure of a backend is invisible: the request is decided again without that
backend. From the first token on there is no silent retry. Whatever happens, settle and record run exactly once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import orjson

from router import clock
from router.config import Config
from router.core.admission import WaitQueue
from router.core.decisions import Dispatch, Reject, RejectReason, Wait
from router.core.fleet import Fleet
from router.core.outcomes import CONSEQUENCES, Charge, Outcome, Retry
from router.core.policy import Policy
from router.core.retry import MAX_ATTEMPTS
from router.core.tokens import TokenEstimator
from router.core.types import Lease, Priority, Request, Rng, Usage
from router.errors import RouterError
from router.gateway import ingress, responses
from router.gateway.aliases import Aliases, rewrite_model
from router.gateway.auth import Authenticator
from router.gateway.relay import Relay
from router.store.base import Key, Refusal, Reservation, Store
from router.tasks import spawn
from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.sink import Telemetry
from router.upstream.classify import AttemptEnd
from router.upstream.pool import Pool, Pools
from router.wire.flow import Flow, Signal
from router.wire.inbound import Inbound, InboundRequest
from router.wire.outbound import Outbound

if TYPE_CHECKING:
    from router.gateway.ingress import Ask

_log = logging.getLogger("router.gateway")

_ANSWER_HEAD = (
    b"%b%b%bx-request-id: %b\r\nx-router-region: %b\r\nx-router-backend: %b\r\nx-router-attempts: %d\r\n"
    b"server-timing: wait;dur=%.2f, upstream;dur=%.2f\r\n\r\n"
)

#: A request may kill this many backends; then it is remembered for a while and not tried again.
POISON_DEATHS = 2
POISON_ENTRIES = 1024
POISON_S = 60.0


class ClientGone(Exception):  # noqa: N818 - an event, not an error
    """Thrown into a request's flow when its client has left."""


class PassedOn(RouterError):  # noqa: N818
    """A backend found fault with the request: the client gets the backend's own words."""

    def __init__(self, end: AttemptEnd) -> None:
        super().__init__("upstream_error", f"The backend answered with status {end.status}.")
        self.end = end


@dataclass(slots=True)
class Settings:
    """What a configuration gives the request path; replaced whole by a reload."""

    config: Config
    authenticator: Authenticator
    aliases: Aliases
    policies: dict[str, Policy]

    @property
    def policy(self) -> Policy:
        return self.policies[self.config.router.policy]


@dataclass(slots=True, eq=False)
class Exchange:
    """One request on its way: everything about it that outlives a single stop."""

    inbound: Inbound
    request: InboundRequest
    request_id: bytes
    arrival_s: float
    record: Record
    flow: Flow | None = None
    key: Key | None = None
    ask: Ask | None = None
    need: Request | None = None
    reservation: Reservation | None = None
    relay: Relay | None = None  # of the attempt in progress, or of the answer that was begun
    lease: Lease | None = None
    rejected: Reject | None = None
    usage: Usage | None = None
    charge: Charge = Charge.REFUND
    tried: set[str] = field(default_factory=set)
    shunned: set[str] = field(default_factory=set)  # in a region where a backend could not be reached: last resort
    deaths: int = 0
    keep_alive: bool = True
    answered: bool = False


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
        queue: WaitQueue[Signal[bool]],
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
        self._date = responses.DateHeader()
        self._poison: OrderedDict[int, float] = OrderedDict()  # hash of a body -> when it had killed enough
        self._loop = asyncio.get_running_loop()
        self.live: set[Exchange] = set()
        self.closing = False

    async def serve(self, x: Exchange) -> None:
        """From the last byte of the request to its record."""
        try:
            x.key = self.settings.authenticator.key_of(x.request.headers)
            x.ask = ingress.read(x.request, x.request_id)
            self._understand(x, x.key, x.ask)
            await self._reserve(x, x.key)
            await self._answer(x, x.ask)
        except RouterError as error:
            self._refuse(x, error)
        except ClientGone:
            self._client_gone(x)
        except Exception:
            _log.exception("request %s failed", x.request_id.decode())
            self._refuse(x, RouterError("internal"))
        finally:
            self._settle(x)
            self._finish(x)
            self._telemetry.request_done(x.record)

    # 3: what is asked

    def _understand(self, x: Exchange, key: Key, ask: Ask) -> None:
        """Turn the ask into the core's words and note it in the record."""
        config, record = self.settings.config, x.record
        record.key_id, record.tenant, record.plan = key.id, key.tenant, key.plan.name
        record.trace_id, record.model, record.stream = ask.trace_id, ask.model, ask.stream
        if ask.policy is not None and (not config.router.policy_header or ask.policy not in self.settings.policies):
            raise RouterError("invalid_request", "x-router-policy is not allowed here or names no policy.")
        x.need = need = self.need_of(key, ask, record.request_id, x.arrival_s)
        record.priority = need.priority.name.lower()
        record.residency = tuple(sorted(need.residency)) if need.residency is not None else None
        record.prompt_tokens, record.max_output_tokens = need.prompt_tokens, need.max_output_tokens
        record.prefix_blocks, record.tokens_per_block = ask.blocks, need.tokens_per_block

    def need_of(self, key: Key, ask: Ask, request_id: str, arrival_s: float) -> Request:
        """The request as the core sees it: the key's plan and the ask narrow each other down."""
        residency = ask.residency
        if key.plan.residency:
            allowed = frozenset(key.plan.residency)
            residency = allowed if residency is None else allowed & residency
        priority = Priority[key.plan.priority.upper()]
        if ask.priority is not None:
            priority = max(priority, ask.priority)  # a request may stand back, never push forward
        prompt_tokens = self._tokens.prompt_tokens(ask.model, ask.prompt_bytes)
        return Request(
            request_id,
            ask.model,
            tenant=key.tenant,
            prompt_tokens=prompt_tokens,
            max_output_tokens=ask.choices * self._tokens.output_tokens(key.id, ask.model, ask.max_tokens),
            prefix_blocks=ask.blocks,
            tokens_per_block=prompt_tokens * ingress.PREFIX_BLOCK_BYTES / ask.prompt_bytes if ask.blocks else 0.0,
            residency=residency,
            pin_region=ask.pin_region,
            affinity=ask.affinity,
            priority=priority,
            arrival_s=arrival_s,
            deadline_s=arrival_s + ask.timeout_s if ask.timeout_s is not None else float("inf"),
            stream=ask.stream,
        )

    # 4: reserve

    async def _reserve(self, x: Exchange, key: Key) -> None:
        assert x.need is not None
        need = x.need
        tokens = need.prompt_tokens + need.max_output_tokens
        microusd = self.settings.aliases.microusd(need.model, need.prompt_tokens, need.max_output_tokens)
        taken = self._store.reserve_now(key, tokens, need.request_id, x.arrival_s, microusd=microusd)
        if taken is None:
            taken = await self._ask_store(key, tokens, need.request_id, microusd)
        if isinstance(taken, Reservation):
            x.reservation = taken
            return
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

    async def _ask_store(self, key: Key, tokens: int, request_id: str, microusd: int) -> Reservation | Refusal:
        """One script call in a task of its own. If the client leaves meanwhile, what was taken is given back."""
        task = spawn(self._store.reserve(key, tokens, request_id, microusd=microusd), name=f"reserve {request_id}")
        try:
            return await task
        except ClientGone:
            task.add_done_callback(self._give_back)
            raise

    def _give_back(self, task: asyncio.Task[Reservation | Refusal]) -> None:
        if not task.cancelled() and task.exception() is None and isinstance(taken := task.result(), Reservation):
            self._store.settle(taken, None)

    def _unknown_model(self, model: str) -> RouterError:
        names = sorted({*self.fleet.models(), *self.settings.aliases.names()})
        listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        return RouterError(
            "unknown_model",
            f"The model `{model[:128]}` does not exist. Models: {listed or 'none yet'}.",
            param="model",
        )

    # 5 to 9: decide, wait, attempt, commit, relay

    async def _answer(self, x: Exchange, ask: Ask) -> None:
        """Attempts until one has answered. Raises RouterError when none can."""
        failure: AttemptEnd | None = None
        self._check_poison(x)
        for served in self.settings.aliases.route(ask.model, self._rng):
            assert x.need is not None
            x.need.model = x.record.served_model = served
            while True:
                dispatch = await self._decide(x, failure)
                if dispatch is None:
                    break
                failure = await self._attempt(x, ask, dispatch, served)
                if failure.outcome is Outcome.OK:
                    return
                if not self._may_retry(x, failure, dispatch.lease.backend):
                    raise self._upstream_error(x, failure, dispatch.lease.backend)
        raise self._rejection(x, failure)

    async def _decide(self, x: Exchange, failure: AttemptEnd | None) -> Dispatch | None:
        """A dispatch with its lease. None: no backend can take it, ``x.rejected`` says why."""
        assert x.need is not None
        assert x.ask is not None
        policy = self.settings.policies[x.ask.policy] if x.ask.policy is not None else self.settings.policy
        while True:
            now_s = clock.monotonic_s()
            decision = self.fleet.decide(x.need, policy, now_s, self._rng, exclude=x.tried | x.shunned)
            if x.shunned and not isinstance(decision, Dispatch):
                decision = self.fleet.decide(x.need, policy, now_s, self._rng, exclude=x.tried)
            x.record.policy = policy.name
            x.record.candidates = decision.candidates
            if isinstance(decision, Dispatch):
                return decision
            if isinstance(decision, Reject):
                x.rejected = decision
                return None
            if failure is not None:
                return None  # waiting again helps nobody: the client gets what the first backend said
            await self._wait(x, decision)

    async def _wait(self, x: Exchange, decision: Wait) -> None:
        """Until a place is free. Raises RouterError (admission_full, wait_expired)."""
        assert x.need is not None
        began_s = clock.monotonic_s()
        place: Signal[bool] = Signal()
        if not self._queue.push(x.need, began_s, place, until_s=decision.until_s):
            raise RouterError("admission_full", retry_after_s=self._queue.expected_wait_s(began_s), should_retry=True)
        try:
            free = await place
        finally:
            x.record.wait_s += clock.monotonic_s() - began_s
            self._queue.remove(place)
        if not free:
            again_s = self._queue.expected_wait_s(clock.monotonic_s())
            raise RouterError("wait_expired", retry_after_s=again_s, should_retry=True)

    def offer_places(self) -> None:
        """Something ended: let those who wait try again, as many as there are places."""
        now_s = clock.monotonic_s()
        for place in self._queue.expire(now_s):
            place.set(False)
        for _ in range(len(self._queue)):
            free = self._queue.pop(now_s, self._fits)
            if free is None:
                return
            free.set(True)  # the request decides, and takes its place, before this returns

    def _fits(self, request: Request) -> bool:
        decision = self.fleet.decide(request, self.settings.policy, clock.monotonic_s(), self._rng, dry_run=True)
        return not isinstance(decision, Wait)

    def sweep(self) -> None:
        """Time-driven work, a few times a second."""
        self._pools.sweep()
        self.offer_places()

    def backend_refused(self, backend: str) -> None:
        """Nobody listens there any more: what still waits for its first token from there is tried elsewhere at once."""
        for x in list(self.live):
            if x.relay is not None and x.lease is not None and x.lease.backend == backend:
                x.relay.give_up("refuses connections")

    async def _attempt(self, x: Exchange, ask: Ask, dispatch: Dispatch, served: str) -> AttemptEnd:
        """One try on one backend, from the lease to its end."""
        lease = dispatch.lease
        began_s = clock.monotonic_s()
        backend = self.fleet.backends[lease.backend]
        note = AttemptRecord(
            lease.backend,
            backend.spec.region.name,
            began_s - x.arrival_s,
            predicted_ttft_s=lease.predicted_ttft_s,
            kind="retry" if x.tried else "first",
        )
        x.record.attempts.append(note)
        x.tried.add(lease.backend)
        x.lease = lease
        end = AttemptEnd(Outcome.CLIENT_GONE)  # how it ends if the client leaves: that is thrown in here
        try:
            end = await self._exchange_bytes(x, ask, self._pools[lease.backend], served)
            return end
        finally:
            relay, x.lease = x.relay, None
            if relay is not None:
                relay.close()
                if relay.committed:
                    x.usage = relay.usage
                    x.record.reply_bytes = relay.delivered_bytes
            x.charge = CONSEQUENCES[end.outcome].charge
            now_s = clock.monotonic_s()
            self.fleet.end(lease, end.outcome, now_s, x.usage, retry_after_s=end.retry_after_s)
            note.outcome, note.status, note.detail = end.outcome.value, end.status or None, end.detail or None
            note.duration_s = now_s - began_s
            if lease.first_token_s is not None:
                note.ttft_s = lease.first_token_s - began_s
            if len(self._queue):
                self._loop.call_soon(self.offer_places)

    async def _exchange_bytes(self, x: Exchange, ask: Ask, pool: Pool, served: str) -> AttemptEnd:
        """Send the request and relay the answer. A pooled connection that was closed under us costs nothing."""
        data = self._upstream_bytes(x, ask, pool, served)
        outbound = pool.take()
        while True:
            if outbound is None:
                try:
                    outbound = await self._connect(pool)
                except RouterError as error:
                    return AttemptEnd(Outcome.UNREACHABLE, error.code, detail=error.detail)
            relay = x.relay = self._new_relay(x, ask, pool, outbound)
            outbound.send(data, relay)
            try:
                end = await relay.ended
            except ClientGone:
                outbound.abort()
                raise
            if not end.stale:
                return end
            relay.close()
            x.relay = outbound = None

    async def _connect(self, pool: Pool) -> Outbound:
        timeout_s = self.settings.config.timeouts.connect
        task = spawn(pool.connect(timeout_s), name=f"connect {pool.spec.name}", expected=(RouterError,))
        try:
            return await task
        except ClientGone:
            task.add_done_callback(pool.keep_for_later)
            raise

    def _upstream_bytes(self, x: Exchange, ask: Ask, pool: Pool, served: str) -> bytes:
        """The request for the backend: a head of our own, the client's body as it came."""
        body = x.request.body
        if served != ask.model:
            body = rewrite_model(body, orjson.dumps(served))
        before, after = pool.head
        return b"%b%b%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b" % (
            before,
            ask.target,
            after,
            ask.content_type,
            len(body),
            x.request_id,
            ask.forwarded,
            body,
        )

    def _new_relay(self, x: Exchange, ask: Ask, pool: Pool, outbound: Outbound) -> Relay:
        timeouts = self.settings.config.timeouts
        limit_s = timeouts.first_token if ask.stream else timeouts.answer
        if x.need is not None and x.need.deadline_s != float("inf"):
            limit_s = min(limit_s, max(x.need.deadline_s - clock.monotonic_s(), 0.001))
        return Relay(
            x.inbound,
            outbound,
            kind=ask.kind,
            choices=ask.choices,
            sum_usage=pool.spec.engine == "llamacpp",
            http11=x.request.http11,
            limit_s=limit_s,
            gap_s=timeouts.token_gap,
            commit=partial(self.commit, x),
            loop=self._loop,
        )

    # 8: commit

    def commit(self, x: Exchange, relay: Relay, length: int | None) -> bytes:
        """The first content token is here: from now on the client has an answer. Returns its head."""
        lease, record = x.lease, x.record
        assert lease is not None
        now_s = clock.monotonic_s()
        if relay.is_stream:
            self.fleet.first_token(lease, now_s)
        record.ttft_s = now_s - x.arrival_s
        record.status = relay.status
        x.answered = True
        x.keep_alive = x.request.keep_alive and (x.request.http11 or length is not None)
        attempt = record.attempts[-1]
        lines = [b"%b: %b\r\n" % (name, value) for name, value in relay.headers if name in responses.PASSED]
        if record.served_model != record.model and record.served_model is not None:
            lines.append(b"x-router-model: %b\r\n" % record.served_model.encode("latin-1", "replace"))
        if x.reservation is not None:
            lines.append(responses.rate_limit_lines(x.reservation))
        if length is not None:
            lines.append(b"content-length: %d\r\n" % length)
        elif x.request.http11:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not x.keep_alive or self.closing:
            lines.append(b"connection: close\r\n")
        return _ANSWER_HEAD % (
            responses.status_line(relay.status),
            self._date.at(clock.wall_s()),
            b"".join(lines),
            x.request_id,
            attempt.region.encode(),
            attempt.backend.encode(),
            len(record.attempts),
            record.wait_s * 1000,
            (now_s - x.arrival_s - attempt.started_s) * 1000,
        )

    # what follows a failure

    def _may_retry(self, x: Exchange, end: AttemptEnd, backend: str) -> bool:
        if end.outcome is Outcome.UNREACHABLE:
            region = x.record.attempts[-1].region
            x.shunned.update(b.name for b in self.fleet.backends.values() if b.region == region)
        if x.answered or len(x.record.attempts) >= MAX_ATTEMPTS:
            return False
        if end.died:
            x.deaths += 1
            if x.deaths >= POISON_DEATHS:
                self._remember_poison(x)
                return False
        if x.need is not None and clock.monotonic_s() >= x.need.deadline_s:
            return False
        rule = CONSEQUENCES[end.outcome].retry
        return rule is Retry.YES or (rule is Retry.IN_BUDGET and self.fleet.may_retry(backend, clock.monotonic_s()))

    def _upstream_error(self, x: Exchange, end: AttemptEnd, backend: str) -> RouterError:
        """What the client is told when no other backend may be asked."""
        if end.outcome is Outcome.CLIENT_ERROR:
            return PassedOn(end)
        if end.outcome is Outcome.OVERLOADED:
            wait_s = end.retry_after_s or 1.0
            return RouterError(
                "admission_full" if end.status == 429 else "no_backend",
                "Every backend that could serve this is overloaded.",
                retry_after_s=wait_s,
                should_retry=True,
            )
        if end.outcome is Outcome.UNREACHABLE and not self._any_usable(x.record.served_model or ""):
            return RouterError("no_backend", retry_after_s=1.0, should_retry=True)
        return RouterError(end.code or "upstream_error", f"Backend {backend} {end.detail.rstrip('.')}.")

    def _any_usable(self, model: str) -> bool:
        now_s = clock.monotonic_s()
        return any(b.serves(model) and b.usable(now_s) for b in self.fleet.backends.values())

    def _rejection(self, x: Exchange, failure: AttemptEnd | None) -> RouterError:
        """No backend is left. A failure that was met tells the client more than "nobody is left"."""
        if failure is not None:
            return self._upstream_error(x, failure, x.record.attempts[-1].backend)
        rejected = x.rejected
        assert rejected is not None
        if rejected.reason is RejectReason.UNKNOWN_MODEL:
            return self._unknown_model(x.record.model or "")
        return RouterError(
            rejected.reason.value,
            rejected.detail,
            retry_after_s=rejected.retry_after_s,
            should_retry=False if rejected.reason is RejectReason.RESIDENCY else None,
        )

    def _check_poison(self, x: Exchange) -> None:
        """A request that has killed backends is not tried on yet another one."""
        since_s = self._poison.get(hash(x.request.body)) if self._poison else None
        if since_s is not None and x.arrival_s - since_s < POISON_S:
            detail = "Backends died of this very request; it is not tried again for a while."
            raise RouterError("upstream_error", detail, should_retry=False)

    def _remember_poison(self, x: Exchange) -> None:
        self._poison[hash(x.request.body)] = clock.monotonic_s()
        if len(self._poison) > POISON_ENTRIES:
            self._poison.popitem(last=False)

    def _refuse(self, x: Exchange, error: RouterError) -> None:
        """The request ends with an error: as an answer, or in band if the answer has begun."""
        record = x.record
        record.error = error.code
        record.cause = record.attempts[-1].outcome or "refused" if record.attempts else "refused"
        if x.answered:
            if x.relay is not None and x.relay.is_stream:
                x.relay.write_in_band(responses.error_event(error))
            x.keep_alive = False  # the answer is not whole, and its framing must say so too
            return
        record.status = error.status
        lines = [b"x-request-id: %b\r\n" % x.request_id, *responses.error_headers(error)]
        body, content_type = responses.error_body(error), b"application/json"
        if record.attempts:
            last = record.attempts[-1]
            lines.append(
                b"x-router-region: %b\r\nx-router-backend: %b\r\nx-router-attempts: %d\r\n"
                % (last.region.encode(), last.backend.encode(), len(record.attempts))
            )
        if isinstance(error, PassedOn):
            record.status = error.end.status
            body, content_type = responses.passed_on_error(error.end.status, error.end.body, error.end.content_type)
        x.keep_alive = x.request.keep_alive
        x.answered = True
        record.reply_bytes = len(body)
        x.inbound.write(
            responses.plain(record.status, body, content_type=content_type, keep_alive=x.keep_alive, lines=lines)
        )

    def _client_gone(self, x: Exchange) -> None:
        x.record.error, x.record.cause = "client_gone", Outcome.CLIENT_GONE.value
        if not x.answered:
            x.record.status = 499

    # 10, 11: settle and record

    def _settle(self, x: Exchange) -> None:
        """Charge what was used, and learn from it."""
        usage, record = x.usage, x.record
        if usage is not None:
            record.output_tokens, record.usage_reported = usage.output_tokens, usage.reported
            record.cached_tokens = usage.cached_tokens
            if usage.reported:
                record.prompt_tokens = usage.prompt_tokens
                if (
                    x.ask is not None
                    and x.key is not None
                    and record.served_model is not None
                    and x.charge is Charge.ACTUAL
                ):
                    self._tokens.learn(
                        x.key.id, record.served_model, x.ask.prompt_bytes, usage.prompt_tokens, usage.output_tokens
                    )
        if x.reservation is None:
            return
        refund = x.charge is Charge.REFUND or (x.charge is Charge.DELIVERED and usage is None)
        if refund:
            self._store.settle(x.reservation, None)
            return
        prompt, output = record.prompt_tokens, record.output_tokens
        microusd = self.settings.aliases.microusd(record.model or "", prompt, output)
        self._store.settle(x.reservation, prompt + output, microusd=microusd)

    def _finish(self, x: Exchange) -> None:
        self.live.discard(x)
        x.record.duration_s = clock.monotonic_s() - x.arrival_s
        if x.record.cause != Outcome.CLIENT_GONE.value:
            x.inbound.finish(x.keep_alive and not self.closing)
