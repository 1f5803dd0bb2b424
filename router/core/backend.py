"""One backend as the core sees it: what we have in flight there, what we know of it, and what it costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from router.core.affinity import PrefixIndex
from router.core.capacity import Capacity
from router.core.configured import Configured
from router.core.cost import Ahead, kv_pressure_s
from router.core.denials import Denials
from router.core.health import Event, Health, State
from router.core.lane import Lane
from router.core.learn.backlog import Backlog
from router.core.learn.first_token import Line, TtftFit
from router.core.learn.rtt import RttEstimate
from router.core.learn.service import Service
from router.core.others import Others
from router.core.outcomes import CONSEQUENCES, Lesson, OnHealth, Outcome
from router.core.params import Params
from router.core.prompts import Prompts
from router.core.reputation import Reputation
from router.core.types import BackendSpec, Lease, LoadSample, Usage

if TYPE_CHECKING:
    from router.core.bulletin import Bulletin
    from router.core.common import Neutral

_OK = Outcome.OK
_MILLIONTH = 1e-6


class Backend(Configured):
    """Counts are exact and ours; ``others_*`` is what peers and scrapes add to them.

    A backend alters itself, when the fleet tells it what happened; nobody else assigns to its fields. Policies read
    them: above all ``lanes[model].quote``, ``inflight``, ``others_inflight``, ``prefix``, ``rtt_s``.
    """

    __slots__ = (
        "_bulletin",
        "_lane_list",
        "_neutral",
        "_params",
        "_place_s",
        "_retries_total",
        "_slots",
        "_stirred",
        "_taught_s",
        "answered_total",
        "backlog",
        "born_s",
        "capacity",
        "denials",
        "health",
        "inflight",
        "lanes",
        "last_end_s",
        "others",
        "others_inflight",
        "others_mpairs",
        "others_tokens",
        "prefix",
        "prompts",
        "reputation",
        "requests_total",
        "rtt",
        "service",
        "tokens_per_block",
        "trials",
    )

    def __init__(self, spec: BackendSpec, params: Params, bulletin: Bulletin, neutral: Neutral, now_s: float) -> None:
        self._params = params
        self._bulletin = bulletin
        self._neutral = neutral
        super().__init__(spec)
        self.inflight = 0
        self.prompts = Prompts()
        self.reputation = Reputation(params)
        #: leases that try a backend on its way back, until their first token
        self.trials: set[Lease] = set()
        self.requests_total = self._retries_total = 0
        #: of ``requests_total``, those that were begun when the latest first token or whole answer came
        self.answered_total = 0
        #: something ended or came here since the last tick
        self._stirred = False
        self.forget(now_s)

    def __repr__(self) -> str:
        return f"<Backend {self.name} [{self.state.value}, {self.inflight} in flight{', withdrawn' * self.withdrawn}]>"

    def reconfigure(self, spec: BackendSpec, now_s: float) -> None:
        """Take over another configuration. Forget what was learned only if it is another engine."""
        before = self.spec
        self.install(spec)
        if before.max_inflight != spec.max_inflight:
            self.capacity.configure(spec.max_inflight)
        if (before.url, before.engine, before.models) != (spec.url, spec.engine, spec.models):
            self.forget(now_s)
        if spec.probation != "burn-in":
            self.burning_in_since_s = None

    def forget_distance(self) -> None:
        """The router stands elsewhere: no round trip has been measured from there."""
        self.rtt = RttEstimate(self._params)

    def forget(self, now_s: float) -> None:
        """Another engine stands behind the name: nothing learned holds, only what we have in flight."""
        params = self._params
        #: attempts that began earlier went to another engine
        self.born_s = now_s
        self.health = Health(params, now_s)
        self.burning_in_since_s = now_s if self.spec.probation == "burn-in" else None
        self.forget_engine()
        self.denials = Denials(params)
        self.capacity = Capacity(params, self.spec.max_inflight)
        self.last_end_s = self._taught_s = float("-inf")  # taught by a whole answer
        self.reputation.forget()
        self.answered_total = self.requests_total
        self.forget_distance()
        self.others = Others(params)
        self.others_inflight = self.others_tokens = self.others_mpairs = 0.0
        self.service = Service(params, now_s, *self._sent())
        self.backlog = Backlog(params)
        self._slots, self._place_s = float("inf"), 0.0
        self.prefix = PrefixIndex(params)
        #: of the latest request that had blocks
        self.tokens_per_block = 0.0
        self.lanes: dict[str, Lane] = {}
        self._lane_list: tuple[Lane, ...] = ()

    def _sent(self) -> tuple[int, int, float]:
        """(first attempts, uncached tokens, millions of pairs) that were ever sent here."""
        prompts = self.prompts
        return self.requests_total - self._retries_total, prompts.sent_tokens, prompts.sent_pairs * _MILLIONTH

    # -- what others read -------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.health.state

    @property
    def busiest_lane(self) -> Lane | None:
        """The lane with the most samples speaks for the backend. None before the first sample."""
        lane = max(self._lane_list, key=lambda lane: lane.fit.samples, default=None)
        return None if lane is None or lane.fit.at_s == float("-inf") else lane

    @property
    def rtt_s(self) -> float:
        """Measured, else what the distance suggests, else the configured guess."""
        if self.rtt.mean_s is not None:
            return self.rtt.mean_s
        return self._params.rtt_unknown_s if self.rtt_prior_s is None else self.rtt_prior_s

    def usable(self, now_s: float) -> bool:
        """May get requests: not draining or leaving, not burning in, not ejected, not asked to stay away."""
        held = self.withdrawn or self.burning_in_since_s is not None
        return not held and self.health.state is not State.EJECTED and now_s >= self.capacity.not_before_s

    def end_burn_in(self, now_s: float) -> None:
        """It has proved itself, and gets its first requests by and by."""
        self.burning_in_since_s = None
        self.health.welcome_s = now_s
        self._bulletin.returns(now_s + self._params.slow_start_s)
        self.refresh(now_s)

    @property
    def doubtful(self) -> bool:
        """Whether ``candidates.comes_last`` has to be asked at all."""
        return self.reputation.doubtful or self.health.last_probe_ok is False

    # -- what happens to requests -----------------------------------------------------------------------------------

    def count(self, lease: Lease, now_s: float) -> Sequence[int]:
        """``lease`` goes there. Returns the prefix blocks that are news to those who share what they know."""
        request = lease.request
        self.inflight += 1
        self.requests_total += 1
        self.prompts.add(lease)
        if lease.probation:
            self.trials.add(lease)
        if lease.retry:
            self._retries_total += 1
        fresh: Sequence[int] = ()
        if request.prefix_blocks:
            about = round(lease.cached_tokens / request.tokens_per_block) if lease.cached_tokens else 0
            lease.fresh_blocks = fresh = self.prefix.insert(request.prefix_blocks, about)
            self.tokens_per_block = request.tokens_per_block
        if self.reputation.failed_in_row:
            self.reputation.begun(now_s)
        if self.inflight >= self.capacity.limit:
            self._bulletin.full.add(self)
        self.requote()
        return fresh

    def first_token(self, lease: Lease, now_s: float) -> Event | None:
        """The first token of ``lease`` came. Returns what that means for the backend's health."""
        self._stirred = True
        if self.prompts.remove(lease) and not lease.request.light:
            lane, ahead = self.lanes.get(lease.request.model), lease.ahead
            if lane is not None and ahead is not None and lease.started_s >= self.born_s:
                lane.learn_first_token(lease, ahead, now_s - lease.started_s, self.backlog, now_s)
                self.service.refute(now_s - lease.started_s, ahead.requests)
        if self.trials:
            self.trials.discard(lease)
        event = self._served(lease, now_s)
        if self.capacity.lowered:
            self.capacity.began()
            self._bulletin.note(self)
        self.requote()
        return event

    def ended(
        self, lease: Lease, outcome: Outcome, now_s: float, usage: Usage | None, retry_after_s: float | None
    ) -> Event | None:
        """``lease`` is over. Returns what that means for the backend's health."""
        self.inflight -= 1
        self.last_end_s = now_s
        self._stirred = True
        if lease.first_token_s is None:
            self.prompts.remove(lease)
        if self.trials:
            self.trials.discard(lease)
        if outcome is _OK:
            event = self._answered(lease, now_s, usage)
            self.requote()
        else:
            event = self._failed(lease, outcome, now_s, retry_after_s)
            self.refresh(now_s)
        if self._bulletin.full:
            self._bulletin.note(self)
        return event

    def _answered(self, lease: Lease, now_s: float, usage: Usage | None) -> Event | None:
        """A whole answer came."""
        if lease.request.light:
            return None
        event, service = None, self.service
        if lease.first_token_s is None:
            event = self._served(lease, now_s)
            if lease.ahead is not None and lease.ahead.requests >= service.slots:
                service.refute(now_s - lease.started_s, lease.ahead.requests)
        elif usage is not None:
            before = lease.ahead.requests if lease.ahead is not None else self.inflight
            requests = (before + self.inflight + self.others_inflight) / 2
            service.answered(now_s - lease.first_token_s, usage.output_tokens, requests)
        if self.capacity.lowered:
            self.capacity.answered()
        if lease.cached_tokens and usage is not None and usage.cached_tokens is not None:
            self.prefix.confirm(lease.cached_tokens, usage.cached_tokens)
        if lease.first_token_s is not None:
            service.computed(lease.uncached_tokens, lease.pairs * _MILLIONTH)
        elif now_s - self._taught_s >= self._params.lesson_gap_s:
            self._taught_s = now_s
            took_s = now_s - lease.started_s
            if (lane := self.lanes.get(lease.request.model)) is not None and lease.started_s >= self.born_s:
                lane.whole.add(took_s, now_s)
            service.took(took_s - (lease.predicted_ttft_s or 0.0))  # less than 0 counts as the least there is
            service.computed(lease.uncached_tokens, lease.pairs * _MILLIONTH)
        return event

    def _served(self, lease: Lease, now_s: float) -> Event | None:
        """Tokens came, or a whole answer did."""
        health = self.health
        if lease.probation and health.gray and lease.started_s >= health.since_s:
            lane = self.lanes.get(lease.request.model)
            if lane is not None and lane.still_slow(lease, now_s - lease.started_s):
                return Event.GRAY
        self.answered_total = self.requests_total
        if self.reputation.failure_chance and self.reputation.answered():
            self._bulletin.changed()
        return health.success(now_s, lease.started_s, lease.request.tenant)

    def _failed(self, lease: Lease, outcome: Outcome, now_s: float, retry_after_s: float | None) -> Event | None:
        """Anything but a whole answer: what ``CONSEQUENCES`` says follows from it."""
        consequence, reputation = CONSEQUENCES[outcome], self.reputation
        if consequence.on_health is not OnHealth.NONE or outcome is Outcome.OVERLOADED:
            if not reputation.doubtful:
                self._bulletin.changed()
            reputation.failed(outcome, now_s)
        if outcome is Outcome.OVERLOADED:
            self.capacity.refused(self.inflight, lease.started_s, now_s)
            self._bulletin.note(self)
            if retry_after_s is not None:
                self.capacity.leave_alone(retry_after_s, now_s)
                self._bulletin.returns(self.capacity.not_before_s)
        elif outcome is Outcome.SUPERSEDED:
            self.prompts.give_up(lease, now_s, self.health.last_token_s)
        if lease.fresh_blocks and lease.first_token_s is None and outcome is not Outcome.CLIENT_GONE:
            self.prefix.discard(lease.fresh_blocks)
        if lease.started_s < self.born_s:
            return None
        if outcome is Outcome.MODEL_MISSING:
            self.denials.add(lease.request.model, now_s)
            self._bulletin.returns(self.denials.due_s())
        lane = self.lanes.get(lease.request.model)
        if consequence.lesson is Lesson.CENSORED and lane is not None and not lease.request.light:
            lane.fit.drift(max(0.0, now_s - lease.started_s - (lease.predicted_ttft_s or 0.0)), now_s)
        if consequence.on_health is not OnHealth.HARD and consequence.on_health is not OnHealth.SOFT:
            return None
        # A request that failed elsewhere before may be the cause itself.
        suspicious = lease.retry and outcome is Outcome.SERVER_ERROR
        weight = 0.5 if consequence.on_health is OnHealth.SOFT or suspicious else 1.0
        unreachable, tenant = outcome is Outcome.UNREACHABLE, lease.request.tenant
        return self.health.fault(now_s, lease.started_s, tenant, weight=weight, unreachable=unreachable)

    # -- health -----------------------------------------------------------------------------------------------------

    def fire(self, event: Event, now_s: float, *, silent: bool = False) -> None:
        """Take the step that ``event`` means. ``silent``: the event is that no answer came in time."""
        before = self.state
        if not self.health.fire(event, now_s):
            return
        self._bulletin.moved(self, before, event, now_s, silent=silent)
        self._bulletin.returns(now_s + self._params.slow_start_s)
        if self.state is State.EJECTED:
            self.trials.clear()
            if event is Event.GRAY:
                for lane in self._lane_list:
                    lane.begin_anew()
            if self.health.down:
                self.prefix.clear()
        if self.state is State.PROBATION:
            self._pardon()
        self.refresh(now_s)

    def probed(self, ok: bool, now_s: float) -> Event | None:
        """The verdict of one active probe. Returns what it means for the backend's health."""
        health = self.health
        was_away, was_doubtful = health.away, self.doubtful
        event = health.probe(ok, now_s)
        if was_away and not health.away:
            self._pardon()
            self.refresh(now_s)
            self._bulletin.returns(now_s + self._params.slow_start_s)
        if was_doubtful is not self.doubtful:
            self._bulletin.changed()
        return event

    def _pardon(self) -> None:
        """It is back: what drove requests away was another time and must not keep the trials away."""
        self.reputation.pardon()
        for lane in self._lane_list:
            lane.fit.pardon()

    # -- the passing of time, and what probes, scrapes and peers say -----------------------------------------------

    @property
    def restless(self) -> bool:
        """Whether a tick may change anything here: requests came or went, or are awaited, or it is not healthy."""
        prompts = self.prompts
        return bool(self._stirred or prompts.pending or prompts.unseen) or self.health.state is not State.HEALTHY

    def tick(self, now_s: float) -> int:
        """Bring rates and quotes up to date. Returns how many first attempts were sent here since the last call."""
        self._stirred = False
        firsts = self.service.tick(now_s, *self._sent())
        self.refresh(now_s)
        return firsts

    def learn_models(self, models: Collection[str]) -> bool:
        if not super().learn_models(models):
            return False
        self.denials.keep(self.models)
        return True

    def take_rtt(self, rtt_s: float, now_s: float) -> None:
        self.rtt.add(rtt_s, now_s)
        self.refresh(now_s)

    def take_peers(self, inflight: int, uncached_tokens: int, now_s: float) -> None:
        self.others.take_peers(inflight, uncached_tokens, now_s)
        self.refresh(now_s)

    def take_load(self, sample: LoadSample, now_s: float) -> None:
        """A scrape."""
        if sample.kv_capacity_tokens and self.tokens_per_block:
            self.prefix.resize(sample.kv_capacity_tokens / self.tokens_per_block)
        unseen = self.prompts.sent_after(sample.at_s - self.rtt_s / 2)
        self.others.take_scrape(
            sample,
            inflight=self.inflight - unseen,
            prompts=len(self.prompts) - unseen,
            mean_tokens=self.service.mean_uncached_tokens,
        )
        if sample.running is not None and sample.waiting is not None:
            self.service.seen(sample.running, sample.waiting, sample.kv_ratio, now_s)
        self.refresh(now_s)

    # -- quotes -----------------------------------------------------------------------------------------------------

    def open_lane(self, model: str, line: Line, now_s: float) -> None:
        """Begin to learn about ``model``, with ``line`` as a first guess."""
        self.lanes[model] = Lane(model, TtftFit(self._params, line, now_s))
        self._lane_list = tuple(self.lanes.values())
        self.refresh(now_s)

    def requote(self) -> None:
        """Make new quotes from the counts. Called whenever a count changes: keep it short."""
        prompts = self.prompts
        tokens = prompts.sent_tokens - prompts.done_tokens + self.others_tokens
        mpairs = (prompts.sent_pairs - prompts.done_pairs) * _MILLIONTH + self.others_mpairs
        requests = self.inflight + self.others_inflight
        wait_s = (requests + 1.0 - self._slots) * self._place_s if requests >= self._slots else 0.0
        for lane in self._lane_list:
            queue_s = tokens * lane.token_s + mpairs * lane.mpair_s
            if queue_s < wait_s:
                queue_s = wait_s
            lane.quote = lane.row[lane.place] = (
                lane.fixed_s + queue_s + requests * lane.request_s,
                lane.rate + queue_s * lane.queue_toll + requests * lane.stall,
                lane.curve,
                Ahead(queue_s, tokens, mpairs, requests, lane.rates),  # in this order: keywords cost time here (ADR 14)
            )

    def refresh(self, now_s: float) -> None:
        """Advance everything that depends on time, then the quotes."""
        params, neutral, service = self._params, self._neutral, self.service
        prompts, last_token_s = self.prompts, self.health.last_token_s
        prompts.assume_computed(now_s)
        speed = self.backlog.speed
        pressure_s, load = neutral.pressure_s, self.others.fresh_load(now_s)
        if load is not None and load.kv_ratio is not None:
            pressure_s = kv_pressure_s(load.kv_ratio, params)
        self.others_inflight, self.others_tokens = self.others.counted(load, neutral.others_inflight, now_s)
        if service.mean_uncached_tokens:
            self.others_mpairs = self.others_tokens * service.mean_mpairs / service.mean_uncached_tokens
        prompts.see_progress(
            now_s,
            rtt_s=self.rtt_s,
            last_token_s=last_token_s,
            speed=speed,
            queued=self.inflight + self.others_inflight >= self._slots,
        )
        self._slots, self._place_s = service.slots, service.place_s
        rtt_s = self.rtt.mean_s
        if rtt_s is None:
            rtt_s = neutral.rtt_s if self.rtt_prior_s is None else self.rtt_prior_s
        handshakes = 0 if now_s - self.last_end_s <= params.warm_s else 2 if self.spec.url.startswith("https") else 1
        late_s = prompts.late_s(now_s, last_token_s)
        risk_s = self.reputation.failure_chance * params.failure_cost_s
        slowness = 1.0 / speed
        for lane in self._lane_list:
            lane.refresh(service, rtt_s * (1 + handshakes), pressure_s, late_s, risk_s, slowness)
        self.requote()
