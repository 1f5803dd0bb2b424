"""All backends, all leases, and the one step that matters: filter, rank, lease.

``decide`` is synchronous from the first filter to the counted lease, so no two requests can take the same place. Costly
work is done elsewhere: a model's candidates are listed when a backend changes, quotes are made when a count
changes, and everything that ages is brought up to date once per tick, whoever calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from router.core.audit import audit
from router.core.backend import Backend
from router.core.bulletin import Bulletin, FleetChange
from router.core.candidates import Roster, Strike, doing_better, next_return_s, sort_out, strike, who_serves
from router.core.common import Common
from router.core.cost import predicted_ttft_s, prior_rtt_s, prompt_pairs
from router.core.decisions import Decision, Dispatch, Wait
from router.core.explain import Candidates
from router.core.gray import find_gray
from router.core.health import JUDGED, Event, State
from router.core.leaving import Notice, Withdrawals
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy.base import Policy, Ranking
from router.core.refusal import refuse
from router.core.retry import RetryBudget
from router.core.traits import Continues
from router.core.types import BackendSpec, Lease, LoadSample, Priority, Request, Rng, Usage

_MODEL_MISSING = Outcome.MODEL_MISSING
_EJECTED = State.EJECTED
_TRUSTED = (State.HEALTHY, State.SUSPECT)

#: a backend, and blocks of a prompt that it is about to have
PrefixNews = tuple[str, Sequence[int]]


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
        self.bulletin = Bulletin()
        self.common = Common(params)
        self._by_name: dict[str, Backend] = {}  # backends and retired
        self._serving: dict[str, tuple[Backend, ...]] = {}
        self._rosters: dict[str, Roster] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._withdrawals = Withdrawals()
        self._next_tick_s = float("-inf")
        self._next_gray_s = float("-inf")
        self._prefix_news: deque[PrefixNews] = deque(maxlen=params.prefix_news_max)
        self._patience_s = dict.fromkeys(Priority, params.late_queue_s) | {Priority.BATCH: params.slack_queue_s}
        #: models -> seconds for which a request is held while nothing runs and a backend is being woken
        self.dormant: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Fleet {len(self.backends)} backends, {len(self.leases)} leases>"

    # -- configuration ----------------------------------------------------------------------------------------------

    def apply(self, specs: Sequence[BackendSpec], now_s: float, *, slowly: Collection[str] = ()) -> FleetChange:
        """Make the fleet consist of ``specs``. Those that stay keep what was learned, unless their engine changed. Of
        those that are new, the ones named in ``slowly`` begin with a slow start."""
        wanted = {spec.name: spec for spec in specs}
        added, updated = [name for name in wanted if name not in self.backends], list[str]()
        removed = [name for name in self.backends if name not in wanted]
        for name in removed:
            backend = self.backends.pop(name)
            if backend.inflight:
                self.retired[name] = backend
            else:
                del self._by_name[name]
        for name, spec in wanted.items():
            known = self.backends.get(name) or self.retired.pop(name, None)
            if known is None:
                known = self._by_name[name] = Backend(spec, self.params, self.bulletin, self.common.neutral, now_s)
                if name in slowly:
                    known.health.welcome(now_s)
                    self.bulletin.returns(now_s + self.params.slow_start_s)
            elif known.spec != spec:
                known.reconfigure(spec, now_s)
                updated.append(name)
            self.backends[name] = known
        self.backends = {name: self.backends[name] for name in wanted}
        self._place()
        self.bulletin.next_return_s = now_s  # those that are back may have a pause to end
        self.tick(now_s, everywhere=True)
        return FleetChange(tuple(added), tuple(removed), tuple(updated))

    def move_to(self, region: str, now_s: float) -> None:
        """Stand in another region, from which no round trip has been measured yet."""
        self.router_region = region
        for b in self.backends.values():
            b.forget_distance()
        self._place()
        for b in self.backends.values():
            b.refresh(now_s)

    def _place(self) -> None:
        """Tell each backend what follows from the whole list: whether it is local, how far away it is."""
        home = next((b.spec.region.location for b in self.backends.values() if b.region == self.router_region), None)
        for b in self.backends.values():
            local = b.region == self.router_region
            b.stand(local=local, rtt_prior_s=prior_rtt_s(home, b.spec.region.location, self.params, local=local))
            self._withdrawals.tell(b)
            self.bulletin.note(b)
            self._budgets.setdefault(b.region, RetryBudget(self.params))
        self.bulletin.full.intersection_update(self._by_name.values())
        self._list_models()

    def _list_models(self) -> None:
        names = sorted({model for b in self.backends.values() for model in b.models or ()})
        self._serving = {m: who_serves(self.backends.values(), m) for m in names}
        self._rosters = {}
        self.bulletin.changed()

    def models(self) -> list[str]:
        """Every model some backend serves, sorted."""
        return list(self._serving)

    def set_draining(self, backend_or_region: str, draining: bool) -> list[str]:
        """Stop or resume new requests for a backend or a whole region. Returns the backends whose state changed.

        It holds for backends of that name that are configured later, too.
        """
        self._withdrawals.drain(backend_or_region, draining)
        return self._withdraw()

    def set_notice(self, backend_or_region: str, notice: Notice | None) -> list[str]:
        """The same for one that goes away at a known time; None: it stays, or is back."""
        self._withdrawals.give_notice(backend_or_region, notice)
        return self._withdraw()

    def set_asleep(self, backend: str, asleep: bool) -> list[str]:
        """The same for one whose engine sleeps until it is woken."""
        self._withdrawals.put_to_sleep(backend, asleep)
        return self._withdraw()

    def welcome(self, model: str, now_s: float) -> None:
        """Requests were held until backends of ``model`` run: those that do and are idle begin with a few of them."""
        for b in self._serving.get(model, ()):
            if b.usable(now_s) and not b.inflight:
                b.capacity.begin_small()
                self.bulletin.note(b)

    def set_sourced(self, notices: Mapping[str, Notice], unready: Collection[str]) -> list[str]:
        """Sources say which of their backends go away at a known time, and which are not ready."""
        self._withdrawals.source(notices, unready)
        return self._withdraw()

    def _withdraw(self) -> list[str]:
        changed = [b.name for b in self.backends.values() if self._withdrawals.tell(b)]
        if changed:
            self.bulletin.changed()
        return changed

    def leaving(self) -> list[Backend]:
        """Those that go away at a known time, or have gone."""
        return [b for b in self.backends.values() if b.leaving is not None] if self._withdrawals.any_notice else []

    # -- the decision -----------------------------------------------------------------------------------------------

    def decide(
        self,
        request: Request,
        policy: Policy,
        now_s: float,
        rng: Rng,
        *,
        exclude: Collection[str] = (),
        shunned: Collection[str] = (),
        dry_run: bool = False,
    ) -> Decision:
        """Where ``request`` goes. A ``Dispatch`` has its lease counted already, unless it is a dry run. ``exclude``
        names the backends this request was at before, ``shunned`` others that it is not to go to.
        """
        if now_s >= self._next_tick_s:
            self.tick(now_s)
        model, bulletin = request.model, self.bulletin
        roster = self._rosters.get(model)
        if roster is None or roster.generation != bulletin.generation:
            roster = self._roster(model, now_s)
        candidates: Sequence[Backend] = roster.ready
        struck: Sequence[Strike] = roster.struck
        if (
            exclude
            or bulletin.full
            or not roster.plain
            or request.residency is not None
            or request.pin_region is not None
            or request.pin_backend is not None
        ):
            candidates, struck = strike(roster, request, exclude, self.params, rng, now_s, shunned)
            if not candidates:
                return refuse(self, request, struck, exclude, self._serving.get(model), now_s)
        ranking = policy.rank(request, candidates, now_s, rng)
        b = candidates[ranking.chosen]
        ahead = b.lanes[model].quote[3]
        if ahead.queue_s > self._patience_s[request.priority] and policy.binds_late and not (exclude or request.light):
            wait = self._hold(request, candidates, ranking, struck, now_s)
            if wait is not None:
                return wait
        cached = 0.0
        prompt_tokens = uncached = request.prompt_tokens
        if request.prefix_blocks:
            cached = ranking.cached_tokens if ranking.cached_tokens >= 0.0 else b.prefix.cached_tokens(request)
            uncached = int(uncached - cached)
        lease = Lease(
            request,
            b.name,
            now_s,
            prompt_tokens,
            uncached,
            pairs=prompt_pairs(prompt_tokens, uncached),
            predicted_ttft_s=predicted_ttft_s(ahead, prompt_tokens, uncached),
            probation=b.health.state not in _TRUSTED,
            ended=dry_run,
            cached_tokens=cached,
            retry=bool(exclude),
            ahead=ahead,
        )
        if not dry_run:
            self.leases.add(lease)
            fresh = b.count(lease, now_s)
            if fresh and request.residency is None:  # of the others not even hashes leave
                self._prefix_news.append((b.name, fresh))
            if policy.observes and not request.light:
                lease.learner = policy
                policy.dispatched(lease, now_s)
        reason = ranking.reason if not roster.panic else f"{ranking.reason} (panic: too few healthy)"
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
        if min(b.lanes[request.model].ahead.queue_s for b in candidates) <= patience_s:
            return None
        until_s = min(request.deadline_s, now_s + self.params.wait_max_s)
        return Wait(until_s, Candidates(candidates, ranking, struck), reason="every queue is long")

    def _roster(self, model: str, now_s: float) -> Roster:
        """Sort out the model's backends again, each with a quote for it."""
        serving = self._serving.get(model, ())
        line = self.common.line(model)
        for b in serving:
            if model not in b.lanes:
                b.open_lane(model, line, now_s)
        roster = sort_out(self.backends.values(), model, self.params, self.bulletin.generation, now_s)
        if model in self.dormant:
            roster.down = ()  # they are woken instead of tried
        if serving:
            self._rosters[model] = roster
        return roster

    # -- what becomes of a lease ------------------------------------------------------------------------------------

    def first_token(self, lease: Lease, now_s: float) -> None:
        """The first content token was seen: the prompt is computed, and the wait for it can be learned from."""
        if lease.first_token_s is not None or lease.ended:
            return
        lease.first_token_s = now_s
        b = self._by_name[lease.backend]
        event = b.first_token(lease, now_s)
        if event is not None:
            self._fire(b, event, now_s)
        if lease.learner is not None:
            lease.learner.first_token(lease, now_s)

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
        event = b.ended(lease, outcome, now_s, usage, retry_after_s)
        if outcome is _MODEL_MISSING:
            self._list_models()
        if event is not None:
            self._fire(b, event, now_s, silent=outcome is Outcome.FIRST_TOKEN_TIMEOUT)
        if lease.learner is not None:
            lease.learner.ended(lease, outcome, now_s)
        if not b.inflight and self.retired and self.retired.get(b.name) is b:
            del self.retired[b.name], self._by_name[b.name]
            self.bulletin.full.discard(b)

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
        if event is Event.FAULT and b.state is State.PROBATION and not self._may_eject(b):
            return  # it continues its few trials
        b.fire(event, now_s, silent=silent)

    def _may_eject(self, b: Backend) -> bool:
        """Whether judgement may eject ``b``: no more than a share of each model's backends, but always one."""
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
        if (event := b.probed(ok, now_s)) is not None:
            self._fire(b, event, now_s)

    def end_burn_in(self, backend: str, now_s: float) -> None:
        """A new backend has proved itself."""
        self.backends[backend].end_burn_in(now_s)

    def reset(self, backend: str, now_s: float) -> None:
        """An operator says it is well: an ejected backend gets its trials at once."""
        self._fire(self.backends[backend], Event.RESET, now_s)

    # -- what probes, scrapes and peers say -------------------------------------------------------------------------

    def observe_rtt(self, backend: str, rtt_s: float | None, now_s: float) -> None:
        """One round trip; None: the probe was lost, which says nothing about the distance."""
        if (b := self._by_name.get(backend)) is not None and rtt_s is not None:
            b.take_rtt(rtt_s, now_s)

    def observe_load(self, backend: str, sample: LoadSample | None, now_s: float) -> None:
        """One scrape; None: it failed. The last good one holds until it is too old."""
        if (b := self._by_name.get(backend)) is not None and sample is not None:
            b.take_load(sample, now_s)

    def observe_models(self, backend: str, models: Collection[str], now_s: float) -> None:
        """The answer of /v1/models. A configured list of models holds against it."""
        if (b := self._by_name.get(backend)) is not None and b.learn_models(models):
            self._list_models()

    def observe_continues(self, backend: str, found: Continues) -> None:
        """A probe of the live engine has found how it can continue answers of others."""
        if (b := self._by_name.get(backend)) is not None:
            b.take_continues(found)

    def observe_peers(self, backend: str, inflight: int, uncached_tokens: int, now_s: float) -> None:
        """All other routers together have this in flight there."""
        if (b := self._by_name.get(backend)) is not None:
            b.take_peers(inflight, uncached_tokens, now_s)

    def take_silenced(self) -> list[str]:
        """Backends that were ejected since the last call because they do not answer."""
        return self.bulletin.take_silenced()

    def take_prefix_news(self) -> list[PrefixNews]:
        """The blocks that went to backends since the last call and are news to the other routers, the oldest first.

        Only the latest are kept; whoever does not ask loses nothing but those.
        """
        news = list(self._prefix_news)
        self._prefix_news.clear()
        return news

    def observe_prefix(self, backend: str, blocks: Sequence[int]) -> None:
        """Another router sent these blocks there. They are not told to others again."""
        if (b := self._by_name.get(backend)) is not None:
            b.prefix.insert(blocks)

    # -- the passing of time ----------------------------------------------------------------------------------------

    def tick(self, now_s: float, *, everywhere: bool = False) -> None:
        """Advance everything that depends on time: restless backends on every tick, all of them every ``solve_s``."""
        params, bulletin = self.params, self.bulletin
        self._next_tick_s = now_s + params.tick_s
        if now_s >= bulletin.next_return_s:
            bulletin.next_return_s = next_return_s(self.backends.values(), params, now_s)
            self._list_models()
        if everywhere or now_s >= self.common.next_s:
            everywhere = True
            self.common.solve(self._serving, self._by_name.values(), self.backends.values(), now_s)
        for b in self._by_name.values():
            if everywhere or b.restless:
                self._tick_one(b, now_s)
        if now_s >= self._next_gray_s:
            self._next_gray_s = now_s + params.gray_interval_s
            for model, serving in self._serving.items():
                for b in find_gray(serving, model, params, now_s):
                    self._fire(b, Event.GRAY, now_s)

    def _tick_one(self, b: Backend, now_s: float) -> None:
        event = b.health.timer(now_s)
        if event is not None:
            self._fire(b, event, now_s)
        firsts = b.tick(now_s)
        if firsts:
            self._budgets[b.region].requests(firsts, now_s)

    def audit(self) -> None:
        """Raises ``AssertionError`` if any count disagrees with the live leases."""
        audit(self._by_name, self.leases, self.bulletin.full)
