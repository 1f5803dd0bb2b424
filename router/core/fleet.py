"""All backends, all leases, and the one step that matters: filter, rank, lease.

``decide`` is synchronous from the first filter to the counted lease, so no two requests can take the same place. What
is costly is done elsewhere: a model's candidates are listed when a backend changes, prices are made when a count
changes, and everything that ages is brought up to date once per tick, whoever calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import exp

from router.core.audit import audit
from router.core.backend import Backend, cached_tokens
from router.core.candidates import Pool, Strike, doing_better, next_return_s, sort_out, strike, who_serves
from router.core.common import Neutral, charge_tolls
from router.core.cost import distance_rtt_s, predicted_ttft_s, prompt_pairs, work_s
from router.core.decisions import Decision, Dispatch, Wait
from router.core.explain import Candidates
from router.core.gray import find_gray, still_gray
from router.core.health import JUDGED, Event, State
from router.core.learn.backlog import common_speed
from router.core.learn.first_token import Line, common_line, prior_line
from router.core.learn.rtt import RttEstimate
from router.core.learn.service import common_pace, common_tokens
from router.core.outcomes import CONSEQUENCES, Fault, Outcome, Sample
from router.core.params import Params
from router.core.policy.base import Policy, Ranking
from router.core.refusal import refuse
from router.core.retry import RetryBudget
from router.core.types import BackendSpec, Lease, LoadSample, Priority, Request, Rng, Usage

_OK = Outcome.OK
_EJECTED = State.EJECTED
_HEALTHY = State.HEALTHY
_PROBATION = State.PROBATION


#: a backend, and blocks of a prompt that it is about to have
PrefixNews = tuple[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class FleetChange:
    """What ``Fleet.apply`` did, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()


class Fleet:
    """Owns every ``Backend``. All times are ``now_s`` of one monotonic clock, which the caller reads."""

    def __init__(self, params: Params, *, router_region: str | None = None) -> None:
        self.params = params
        self.router_region = router_region
        #: what is configured, by full name
        self.backends: dict[str, Backend] = {}
        #: removed from the configuration, kept until their last lease ends
        self.retired: dict[str, Backend] = {}
        self.leases: set[Lease] = set()
        self.neutral = Neutral(params.rtt_unknown_s)
        self._by_name: dict[str, Backend] = {}  # backends and retired
        self._serving: dict[str, tuple[Backend, ...]] = {}
        self._pools: dict[str, Pool] = {}
        self._generation = 0
        self._full: set[Backend] = set()
        self._budgets: dict[str, RetryBudget] = {}
        self._drained: set[str] = set()  # names of regions and backends
        self._solved_s = float("-inf")
        self._next_tick_s = float("-inf")
        self._next_solve_s = float("-inf")
        self._next_gray_s = float("-inf")
        self._next_return_s = float("inf")  # a Retry-After or a denial runs out
        #: backends that were ejected since the last look because they do not answer: what is there may never end
        self.silenced: list[str] = []
        self._prefix_news: deque[PrefixNews] = deque(maxlen=params.prefix_news_max)
        self._patience_s = {
            Priority.INTERACTIVE: params.late_queue_s,
            Priority.STANDARD: params.late_queue_s,
            Priority.BATCH: params.slack_queue_s,
        }
        self._prior = prior_line(params)
        self._priors: dict[str, Line] = {}

    def __repr__(self) -> str:
        return f"<Fleet {len(self.backends)} backends, {len(self.leases)} leases>"

    # -- configuration ----------------------------------------------------------------------------------------------

    def apply(self, specs: Sequence[BackendSpec], now_s: float) -> FleetChange:
        """Make the fleet consist of ``specs``. Those that stay keep what was learned, unless their engine changed."""
        wanted = {spec.name: spec for spec in specs}
        added, updated = [], []
        removed = [name for name in self.backends if name not in wanted]
        for name in removed:
            backend = self.backends.pop(name)
            if backend.inflight:
                self.retired[name] = backend
            else:
                del self._by_name[name]
        for name, spec in wanted.items():
            backend_or_none = self.backends.get(name) or self.retired.pop(name, None)
            if backend_or_none is None:
                backend = self._by_name[name] = Backend(spec, self.params, now_s)
                added.append(name)
            else:
                backend = backend_or_none
                before = backend.spec
                if before != spec:
                    backend.install(spec)
                    if before.max_inflight != spec.max_inflight:
                        backend.limit = float(spec.max_inflight)
                    if (before.url, before.engine, before.models) != (spec.url, spec.engine, spec.models):
                        backend.forget(now_s)
                    updated.append(name)
                if name not in self.backends:
                    added.append(name)
            self.backends[name] = backend
        self.backends = {name: self.backends[name] for name in wanted}
        self._place()
        self._next_solve_s = now_s
        self._tick(now_s)
        return FleetChange(tuple(added), tuple(removed), tuple(updated))

    def move_to(self, region: str, now_s: float) -> None:
        """Stand in another region, from which no round trip has been measured yet."""
        self.router_region = region
        for b in self.backends.values():
            b.rtt = RttEstimate(self.params)
        self._place()
        for b in self.backends.values():
            b.refresh(now_s, self.neutral)

    def _place(self) -> None:
        """What follows from the whole list: who is local, how far away, who serves what."""
        home = next((b.spec.region.location for b in self.backends.values() if b.region == self.router_region), None)
        for b in self.backends.values():
            b.local = b.region == self.router_region
            b.draining = not self._drained.isdisjoint((b.name, b.region))
            location = b.spec.region.location
            if b.local:
                b.rtt_prior_s = self.params.rtt_same_region_s
            elif home is not None and location is not None:
                b.rtt_prior_s = distance_rtt_s(home, location, self.params)
            else:
                b.rtt_prior_s = None
            self._note_full(b)
            self._budgets.setdefault(b.region, RetryBudget(self.params))
        self._full.intersection_update(self._by_name.values())
        self._list_models()

    def _list_models(self) -> None:
        names = sorted({model for b in self.backends.values() for model in b.models or ()})
        self._serving = {m: who_serves(self.backends.values(), m) for m in names}
        self._pools = {}
        self._generation += 1

    def models(self) -> list[str]:
        """Every model some backend serves, sorted."""
        return list(self._serving)

    def set_draining(self, backend_or_region: str, draining: bool) -> list[str]:
        """Stop or resume new requests for a backend or a whole region. Returns the backends whose state changed.

        It holds for backends of that name that are configured later, too.
        """
        (self._drained.add if draining else self._drained.discard)(backend_or_region)
        changed = []
        for b in self.backends.values():
            drained = not self._drained.isdisjoint((b.name, b.region))
            if b.draining != drained:
                b.draining = drained
                changed.append(b.name)
        self._generation += bool(changed)
        return changed

    # -- the decision -----------------------------------------------------------------------------------------------

    def decide(
        self,
        request: Request,
        policy: Policy,
        now_s: float,
        rng: Rng,
        *,
        exclude: Collection[str] = (),
        dry_run: bool = False,
    ) -> Decision:
        """Where ``request`` goes. A ``Dispatch`` has its lease counted already, unless it is a dry run.

        ``exclude`` names the backends this request was at before.
        """
        if now_s >= self._next_tick_s:
            self._tick(now_s)
        model = request.model
        pool = self._pools.get(model)
        if pool is None or pool.generation != self._generation:
            pool = self._pool(model, now_s)
        candidates: Sequence[Backend] = pool.ready
        struck: Sequence[Strike] = pool.struck
        if (
            exclude
            or self._full
            or not pool.plain
            or not candidates
            or request.residency is not None
            or request.pin_region is not None
            or request.pin_backend is not None
        ):
            candidates, struck = strike(pool, request, exclude, self.params, rng, now_s)
            if not candidates:
                serving = self._serving.get(model)
                return refuse(request, struck, exclude, serving, self.backends.values(), self.params, now_s)
        ranking = policy.rank(request, candidates, now_s, rng)
        b = candidates[ranking.chosen]
        price = b.lanes[model].price
        if policy.binds_late and price[3][0] > self._patience_s[request.priority] and not exclude and not request.light:
            wait = self._hold(request, candidates, ranking, struck, now_s)
            if wait is not None:
                return wait
        cached, uncached = 0.0, request.prompt_tokens
        if request.prefix_blocks:
            cached = ranking.cached_tokens if ranking.cached_tokens >= 0.0 else cached_tokens(b, request)
            uncached = int(uncached - cached)
        lease = Lease(
            request,
            b.name,
            now_s,
            request.prompt_tokens,
            uncached,
            prompt_pairs(request.prompt_tokens, uncached),
            predicted_ttft_s(price, request.prompt_tokens, uncached),
            None,
            b.health.state is not _HEALTHY and b.health.state is not State.SUSPECT,
            dry_run,
            cached,
            bool(exclude),
            price,
        )
        if not dry_run:
            self._count(lease, b, now_s)
            if policy.observes and not request.light:
                lease.observer = policy
                policy.dispatched(lease, now_s)
        reason = ranking.reason if not pool.panic else f"{ranking.reason} (panic: too few healthy)"
        return Dispatch(lease, policy.name, Candidates(candidates, ranking, struck), reason)

    def _hold(
        self, request: Request, candidates: Sequence[Backend], ranking: Ranking, struck: Sequence[Strike], now_s: float
    ) -> Wait | None:
        """Late binding: when every candidate has more work ahead than patience allows, the request waits here.

        Patience grows with the wait: of requests at different routers, the oldest goes first. That of batch priority
        does not. A retry is not held: its client has waited already.
        """
        patience_s = self._patience_s[request.priority]
        if request.priority is not Priority.BATCH:
            patience_s += max(0.0, now_s - request.arrival_s)
        if min(b.lanes[request.model].price[3][0] for b in candidates) <= patience_s:
            return None
        until_s = min(request.deadline_s, now_s + self.params.wait_max_s)
        return Wait(until_s, Candidates(candidates, ranking, struck), reason="every queue is long")

    def _count(self, lease: Lease, b: Backend, now_s: float) -> None:
        self.leases.add(lease)
        request = lease.request
        b.inflight += 1
        b.requests_total += 1
        uncached = lease.uncached_tokens
        b.inflight_uncached_tokens += uncached
        b.uncached_tokens_total += uncached
        b.inflight_pairs += lease.pairs
        b.pairs_total += lease.pairs
        if request.stream:
            b.pending[lease] = None
        else:
            b.unseen[lease] = None
        if lease.probation:
            b.trials.add(lease)
        if lease.retry:
            b.retries_total += 1
        if request.prefix_blocks:
            about = int(lease.cached_tokens / request.tokens_per_block) if lease.cached_tokens else 0
            lease.fresh_blocks = fresh = b.prefix.insert(request.prefix_blocks, about)
            if fresh and request.residency is None:  # of the others not even hashes leave
                self._prefix_news.append((b.name, fresh))
            b.tokens_per_block = request.tokens_per_block
        standing = b.standing
        standing.unanswered += 1
        if standing.failed_in_row:
            standing.tried(now_s)
        if b.inflight >= b.limit:
            self._full.add(b)
        b.reprice()

    def _pool(self, model: str, now_s: float) -> Pool:
        """The model's backends, sorted out anew, each with a price for it."""
        serving = self._serving.get(model, ())
        line = self._priors.get(model, self._prior)
        for b in serving:
            if model not in b.lanes:
                b.lane(model, line, now_s)
                b.refresh(now_s, self.neutral)
        pool = sort_out(self.backends.values(), model, self.params, self._generation, now_s)
        if serving:
            self._pools[model] = pool
        return pool

    # -- what becomes of a lease ------------------------------------------------------------------------------------

    def first_token(self, lease: Lease, now_s: float) -> None:
        """The first content token was seen: the prompt is computed, and the wait for it can be learned from."""
        if lease.first_token_s is not None or lease.ended:
            return
        lease.first_token_s = now_s
        b = self._by_name[lease.backend]
        b.stirred = True
        if b.prefilled(lease) and not lease.request.light:
            self._learn(lease, b, now_s)
            self._refute(lease, b, now_s - lease.started_s)
        if b.trials:
            b.trials.discard(lease)
        self._succeeded(lease, b, now_s)
        b.reprice()
        if lease.observer is not None:
            lease.observer.first_token(lease, now_s)

    def _learn(self, lease: Lease, b: Backend, now_s: float) -> None:
        price = lease.price
        lane = b.lanes.get(lease.request.model)
        if price is None or lane is None or lease.started_s < b.born_s:
            return
        ttft_s = now_s - lease.started_s
        fit = lane.fit
        queue_s, tokens, mpairs, requests, rates = price[3]
        takes_s = work_s(price, lease.prompt_tokens, lease.uncached_tokens)
        error_s = ttft_s - (lease.predicted_ttft_s or 0.0)
        ahead_s = rates.pace * (tokens * rates.token_s + mpairs * rates.pair_s * 2e6)
        if ahead_s > 0.0:
            wait_s = max(0.0, ttft_s - rates.rtt_s - rates.overhead_s - requests * rates.busy_s - takes_s)
            b.backlog.waited(ahead_s, wait_s, now_s)
        if queue_s > takes_s:
            # It waited for others more than for itself: that tells of the backlog, not of the engine.
            fit.note(error_s, now_s)
            lane.queued.add(ttft_s - rates.rtt_s, now_s)
        else:
            tokens = tokens * rates.slowness + lease.uncached_tokens
            mpairs = mpairs * rates.slowness + lease.pairs * 1e-6
            fit.add(tokens, requests, ttft_s - rates.rtt_s, error_s, now_s, mpairs=mpairs)

    def _refute(self, lease: Lease, b: Backend, came_s: float) -> None:
        """A first token or a whole answer came after ``came_s``: sooner than the places that we know of allow?"""
        price = lease.price
        if price is not None and b.service.slots <= price[3][3]:
            b.service.outran(came_s, price[3][3])

    def _succeeded(self, lease: Lease, b: Backend, now_s: float) -> None:
        if lease.probation and b.health.gray and still_gray(lease, b, now_s):
            self._fire(b, Event.GRAY, now_s)
            return
        event = b.health.success(now_s, lease.started_s, lease.request.tenant)
        if event is not None:
            self._fire(b, event, now_s)
        standing = b.standing
        standing.unanswered = 0
        if b.failure_chance:
            b.failure_chance *= 1.0 - self.params.failure_weight
            if standing.doubtful:
                standing.served()
                self._generation += 1

    def end(
        self,
        lease: Lease,
        outcome: Outcome,
        now_s: float,
        usage: Usage | None = None,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        """The attempt is over, after its last byte. Exactly once per lease: a second call raises ``RuntimeError``.

        ``retry_after_s`` is what the backend asked for when it was overloaded.
        """
        if lease.ended:
            raise RuntimeError(f"lease of request {lease.request.request_id} on {lease.backend} ended twice")
        lease.ended = True
        b = self._by_name[lease.backend]
        self.leases.remove(lease)
        b.inflight -= 1
        b.last_end_s = now_s
        b.stirred = True
        if lease.first_token_s is None:
            b.prefilled(lease)
        if b.trials:
            b.trials.discard(lease)
        if outcome is _OK:
            self._answered(lease, b, now_s, usage)
        else:
            self._failed(lease, b, outcome, now_s, retry_after_s)
        if self._full:
            self._note_full(b)
        b.reprice()
        if lease.observer is not None:
            lease.observer.ended(lease, outcome, now_s)
        if not b.inflight and self.retired and self.retired.get(b.name) is b:
            del self.retired[b.name], self._by_name[b.name]
            self._full.discard(b)

    def _answered(self, lease: Lease, b: Backend, now_s: float, usage: Usage | None) -> None:
        """A whole answer came."""
        if lease.request.light:
            return
        if lease.first_token_s is None:
            self._succeeded(lease, b, now_s)
            took_s = now_s - lease.started_s
            lane = b.lanes.get(lease.request.model)
            if lane is not None and lease.started_s >= b.born_s:
                lane.whole.add(took_s, now_s)
            b.service.took(max(0.0, took_s - (lease.predicted_ttft_s or 0.0)))
            self._refute(lease, b, took_s)
        elif usage is not None:
            before = lease.price[3][3] if lease.price is not None else b.inflight
            requests = (before + b.inflight + b.others_inflight) / 2
            b.service.answered(now_s - lease.first_token_s, usage.output_tokens, requests)
        if b.limit < b.spec.max_inflight:
            b.raise_limit()
        b.mean_uncached_tokens += 0.1 * (lease.uncached_tokens - b.mean_uncached_tokens)
        b.mean_mpairs += 0.1 * (lease.pairs * 1e-6 - b.mean_mpairs)
        if lease.cached_tokens and usage is not None and usage.cached_tokens is not None:
            b.prefix.confirm(lease.cached_tokens, usage.cached_tokens)

    def _failed(self, lease: Lease, b: Backend, outcome: Outcome, now_s: float, retry_after_s: float | None) -> None:
        """Anything but a whole answer: what ``CONSEQUENCES`` says follows from it."""
        consequence = CONSEQUENCES[outcome]
        fault = consequence.fault
        if fault is not Fault.NONE or outcome is Outcome.OVERLOADED:
            b.failures_total += 1
            b.last_error = outcome.value
            b.failure_chance += self.params.failure_weight * (1.0 - b.failure_chance)
            if not b.standing.doubtful:
                self._generation += 1
            b.standing.failed(b.failure_chance, now_s)
        if outcome is Outcome.OVERLOADED:
            b.lower_limit(lease, now_s)
            self._note_full(b)
            if retry_after_s is not None:
                b.not_before_s = max(b.not_before_s, now_s + min(retry_after_s, self.params.retry_after_max_s))
                self._next_return_s = min(self._next_return_s, b.not_before_s)
                self._generation += 1
        if lease.fresh_blocks and lease.first_token_s is None and outcome is not Outcome.CLIENT_GONE:
            b.prefix.discard(lease.fresh_blocks)
        old_engine = lease.started_s < b.born_s
        if outcome is Outcome.MODEL_MISSING and not old_engine:
            self._deny(b, lease.request.model, now_s)
        lane = b.lanes.get(lease.request.model)
        if consequence.sample is Sample.CENSORED and lane is not None and not old_engine and not lease.request.light:
            lane.fit.drift(max(0.0, now_s - lease.started_s - (lease.predicted_ttft_s or 0.0)), now_s)
        if fault in (Fault.HARD, Fault.SOFT) and not old_engine:
            # A request that failed elsewhere before may be the cause itself.
            suspicious = lease.retry and outcome is Outcome.SERVER_ERROR
            event = b.health.fault(
                now_s,
                lease.started_s,
                lease.request.tenant,
                weight=0.5 if fault is Fault.SOFT or suspicious else 1.0,
                unreachable=outcome is Outcome.UNREACHABLE,
            )
            if event is not None:
                self._fire(b, event, now_s, silent=outcome is Outcome.FIRST_TOKEN_TIMEOUT)
        b.refresh(now_s, self.neutral)

    def _deny(self, b: Backend, model: str, now_s: float) -> None:
        b.denials.add(model, now_s)
        self._next_return_s = min(self._next_return_s, b.denials.due_s())
        self._list_models()

    def _note_full(self, b: Backend) -> None:
        if b.inflight >= b.limit:
            self._full.add(b)
        else:
            self._full.discard(b)

    def neighbours(self, backend: str) -> frozenset[str]:
        """The names of all backends in the region of ``backend``, itself included."""
        b = self._by_name.get(backend)
        if b is None:
            return frozenset()
        return frozenset(other.name for other in self.backends.values() if other.region == b.region)

    def may_retry(self, backend: str, request: Request, exclude: Collection[str], now_s: float) -> bool:
        """Whether the retry budget of ``backend``'s region allows ``request`` one more. Counts it when it does.

        A backend that a reload took away while it failed is in no region's budget.
        """
        b = self._by_name.get(backend)
        if b is None:
            return True
        others = self._serving.get(request.model, ())
        hopeful = any(doing_better(other, request, exclude, self.params) for other in others)
        return self._budgets[b.region].take(now_s, hopeful=hopeful)

    def retries_left(self, region: str, now_s: float) -> float:
        """Retries that the budget of ``region`` allows now."""
        return self._budgets[region].left(now_s)

    # -- health -----------------------------------------------------------------------------------------------------

    def _fire(self, b: Backend, event: Event, now_s: float, *, silent: bool = False) -> None:
        """``silent``: the event is that no answer came in time."""
        if event in JUDGED and not self._may_eject(b):
            event = Event.FAULT
        if not b.health.fire(event, now_s):
            return
        self._generation += 1
        self._next_return_s = min(self._next_return_s, now_s + self.params.slow_start_s)
        if b.state is _EJECTED:
            b.trials.clear()
            if b.health.down or silent:
                self.silenced.append(b.name)
            if event is Event.GRAY:
                for lane in b.lanes.values():
                    lane.begin_anew()
            if b.health.down:
                b.prefix.clear()
        if b.state is _PROBATION:
            self._pardon(b, now_s)
        else:
            b.refresh(now_s, self.neutral)

    def _pardon(self, b: Backend, now_s: float) -> None:
        """It is back: what drove requests away was another time and must not keep the trials away."""
        b.failure_chance = 0.0
        b.standing.served()
        for lane in b.lanes.values():
            lane.fit.residual_s = 0.0
        b.refresh(now_s, self.neutral)

    def _may_eject(self, b: Backend) -> bool:
        """Judgement may eject only so many of each model's backends, but always one."""
        ratio = self.params.ejected_max_ratio
        for model in b.models or ():
            serving = self._serving.get(model, ())
            ejected = sum(other.state is _EJECTED for other in serving if other is not b)
            if ejected + 1 > max(1, int(ratio * len(serving))):
                return False
        return True

    def observe_health(self, backend: str, ok: bool, now_s: float) -> None:
        """The verdict of one active probe. It takes several to change anything."""
        if (b := self._by_name.get(backend)) is None:
            return
        was_away, was_doubtful = b.health.away, b.doubtful
        if (event := b.health.probe(ok, now_s)) is not None:
            self._fire(b, event, now_s)
        if was_away and not b.health.away:
            self._pardon(b, now_s)
            self._generation += 1
            self._next_return_s = min(self._next_return_s, now_s + self.params.slow_start_s)
        if was_doubtful is not b.doubtful:
            self._generation += 1

    def reset(self, backend: str, now_s: float) -> None:
        """An operator says it is well: an ejected backend gets its trials at once."""
        self._fire(self.backends[backend], Event.RESET, now_s)

    # -- what probes, scrapes and peers say -------------------------------------------------------------------------

    def observe_rtt(self, backend: str, rtt_s: float | None, now_s: float) -> None:
        """One round trip; None: the probe was lost, which says nothing about the distance."""
        if (b := self._by_name.get(backend)) is not None and rtt_s is not None:
            b.rtt.add(rtt_s, now_s)
            b.refresh(now_s, self.neutral)

    def observe_load(self, backend: str, sample: LoadSample | None, now_s: float) -> None:
        """One scrape; None: it failed. The last good one holds until it is too old."""
        if (b := self._by_name.get(backend)) is not None and sample is not None:
            b.take_load(sample, now_s)
            b.refresh(now_s, self.neutral)

    def observe_models(self, backend: str, models: Collection[str], now_s: float) -> None:
        """The answer of /v1/models. What is configured holds against it."""
        if (b := self._by_name.get(backend)) is not None and b.learn_models(models):
            self._list_models()

    def observe_peers(self, backend: str, inflight: int, uncached_tokens: int, now_s: float) -> None:
        """What all other routers together have in flight there."""
        if (b := self._by_name.get(backend)) is not None:
            b.peers_inflight, b.peers_tokens, b.peers_at_s = float(inflight), float(uncached_tokens), now_s
            b.refresh(now_s, self.neutral)

    def take_prefix_news(self) -> list[PrefixNews]:
        """The blocks that went to backends since the last call and are news to the other routers, the oldest first.

        Only the latest are kept; whoever does not ask loses nothing but those.
        """
        news = list(self._prefix_news)
        self._prefix_news.clear()
        return news

    def observe_prefix(self, backend: str, blocks: Sequence[int]) -> None:
        """Another router sent these blocks there. They are no news to tell again."""
        if (b := self._by_name.get(backend)) is not None:
            b.prefix.insert(blocks)

    # -- the passing of time ----------------------------------------------------------------------------------------

    def _tick(self, now_s: float) -> None:
        """Bring what ages up to ``now_s``: where something happens each time, everywhere now and then."""
        params = self.params
        self._next_tick_s = now_s + params.tick_s
        if now_s >= self._next_return_s:
            self._next_return_s = next_return_s(self.backends.values(), params, now_s)
            self._list_models()
        everywhere = now_s >= self._next_solve_s
        if everywhere:
            passed_s = 0.0 if self._solved_s == float("-inf") else max(0.0, now_s - self._solved_s)
            self._solved_s, self._next_solve_s = now_s, now_s + params.solve_s
            self._solve(now_s)
            self.neutral.learn(self.backends.values(), self.params, now_s)
            charge_tolls(self._serving, self.params)
            keep_chance = exp(-passed_s / params.failure_memory_s)
            keep_residual = exp(-passed_s / params.residual_memory_s)
            for b in self._by_name.values():
                b.failure_chance *= keep_chance
                for lane in b.lanes.values():
                    lane.fit.residual_s *= keep_residual
        for b in self._by_name.values():
            if everywhere or b.stirred or b.pending or b.unseen or b.state is not _HEALTHY:
                b.stirred = False
                self._bring_up(b, now_s)
        if now_s >= self._next_gray_s:
            self._next_gray_s = now_s + params.gray_interval_s
            for model, serving in self._serving.items():
                for b in find_gray(serving, model, params, now_s):
                    self._fire(b, Event.GRAY, now_s)

    def _bring_up(self, b: Backend, now_s: float) -> None:
        event = b.health.timer(now_s)
        if event is not None:
            self._fire(b, event, now_s)
        firsts = b.service.tick(
            now_s, b.requests_total - b.retries_total, b.uncached_tokens_total, b.pairs_total * 1e-6
        )
        if firsts:
            self._budgets[b.region].requests(firsts, now_s)
        b.refresh(now_s, self.neutral)

    def _solve(self, now_s: float) -> None:
        """Bring every fit up to date. The prior of a model is what its backends have in common, once some know it."""
        for model, serving in self._serving.items():
            fits = [lane.fit for b in serving if (lane := b.lanes.get(model)) is not None]
            common = common_line(fits, self._prior, self.params)
            self._priors[model] = common
            for fit in fits:
                fit.solve(common, now_s)
            speed = common_speed([b.backlog.fade(now_s) for b in serving], self.params)
            for b in serving:
                b.backlog.settle(speed)
        services = [b.service for b in self._by_name.values()]
        pace, tokens = common_pace(services, self.params), common_tokens(services, self.params)
        for service in services:
            service.expected_tokens = tokens
            service.solve(pace, now_s)

    def audit(self) -> None:
        """Raises ``AssertionError`` if any count disagrees with the live leases."""
        audit(self._by_name, self.leases, self._full)
