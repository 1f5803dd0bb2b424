"""One backend as the core sees it: what we have in flight there, what we know of it, and what it costs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from router.core.affinity import PrefixIndex, place_seed
from router.core.cost import Rates, kv_pressure_s, peers_share, work_s
from router.core.denials import Denials
from router.core.health import Health, State
from router.core.lane import Lane
from router.core.learn.backlog import Backlog
from router.core.learn.first_token import Line, TtftFit
from router.core.learn.rtt import RttEstimate
from router.core.learn.service import Service
from router.core.params import Params
from router.core.standing import Standing
from router.core.types import BackendSpec, Lease, LoadSample, Request

if TYPE_CHECKING:
    from router.core.common import Neutral

_MILLIONTH = 1e-6
_HALF_MILLIONTH = 5e-7
_DONE_MAX = 0.9


class Backend:
    """Counts are exact and ours; ``others_*`` is what peers and scrapes add to them.

    Only the fleet alters a backend. Policies read it: above all ``lanes[model].price``, ``inflight``,
    ``others_inflight``, ``prefix``, ``rtt_s``, ``load``.
    """

    __slots__ = (
        "_ahead_mpairs",
        "_ahead_tokens",
        "_lane_list",
        "_params",
        "_place_s",
        "_slots",
        "backlog",
        "born_s",
        "denials",
        "draining",
        "failure_chance",
        "failures_total",
        "health",
        "inflight",
        "inflight_pairs",
        "inflight_uncached_tokens",
        "jurisdiction",
        "lanes",
        "last_end_s",
        "last_error",
        "limit",
        "limit_lowered_s",
        "load",
        "local",
        "mean_mpairs",
        "mean_uncached_tokens",
        "models",
        "name",
        "not_before_s",
        "others_inflight",
        "others_mpairs",
        "others_tokens",
        "pairs_total",
        "peers_at_s",
        "peers_inflight",
        "peers_tokens",
        "pending",
        "prefix",
        "region",
        "requests_total",
        "retries_total",
        "rtt",
        "rtt_prior_s",
        "scraped_inflight",
        "scraped_tokens",
        "seed",
        "service",
        "spec",
        "standing",
        "stirred",
        "tokens_per_block",
        "trials",
        "uncached_tokens_total",
        "unseen",
    )

    def __init__(self, spec: BackendSpec, params: Params, now_s: float) -> None:
        self._params = params
        self.draining = False
        self.inflight = 0
        self.inflight_uncached_tokens = 0
        #: what attention still has to compute for these
        self.inflight_pairs = 0
        self._computed()
        #: leases whose first token has not come, oldest first
        self.pending: dict[Lease, None] = {}
        #: the same for answers in one piece, whose first token nobody sees
        self.unseen: dict[Lease, None] = {}
        #: leases that try a backend on its way back, until their first token
        self.trials: set[Lease] = set()
        self.requests_total = 0
        self.retries_total = 0
        self.uncached_tokens_total = 0
        self.pairs_total = 0
        self.failures_total = 0
        self.last_error: str | None = None
        #: something ended or came here since it was brought up to date
        self.stirred = False
        self.install(spec)
        self.forget(now_s)

    def __repr__(self) -> str:
        return f"<Backend {self.name} [{self.state.value}, {self.inflight} in flight{', draining' * self.draining}]>"

    def install(self, spec: BackendSpec) -> None:
        """Take over what is configured."""
        self.spec = spec
        self.name = spec.name
        self.region = spec.region.name
        self.jurisdiction = spec.region.jurisdiction
        self.local = False
        self.seed = place_seed(spec.name)
        self.rtt_prior_s: float | None = None

    def forget(self, now_s: float) -> None:
        """Another engine stands behind the name: nothing learned holds, only what we have in flight."""
        params = self._params
        #: attempts that began earlier went to another engine
        self.born_s = now_s
        self.health = Health(params, now_s)
        #: None: not configured, and the engine has not told yet
        self.models: frozenset[str] | None = frozenset(self.spec.models) if self.spec.models else None
        self.denials = Denials(params)
        #: learned: lowered by 429 and 503, never above ``max_inflight``
        self.limit = float(self.spec.max_inflight)
        self.limit_lowered_s = float("-inf")
        self.not_before_s = float("-inf")
        self.last_end_s = float("-inf")
        self.failure_chance = 0.0
        self.standing = Standing(params)
        self.rtt = RttEstimate(params)
        self.load: LoadSample | None = None
        self.scraped_inflight = self.scraped_tokens = 0.0
        self.peers_inflight = self.peers_tokens = 0.0
        self.peers_at_s = float("-inf")
        self.others_inflight = self.others_tokens = self.others_mpairs = 0.0
        #: EWMA of the uncached tokens of a request here, and of their pairs
        self.mean_uncached_tokens = 0.0
        self.mean_mpairs = 0.0
        self.service = Service(
            params,
            now_s,
            self.requests_total - self.retries_total,
            self.uncached_tokens_total,
            self.pairs_total * _MILLIONTH,
        )
        self.backlog = Backlog(params)
        self._slots, self._place_s = float("inf"), 0.0
        self.prefix = PrefixIndex(params)
        #: of the latest request that had blocks
        self.tokens_per_block = 0.0
        self.lanes: dict[str, Lane] = {}
        self._lane_list: tuple[Lane, ...] = ()

    # -- what others read -------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.health.state

    @property
    def max_inflight(self) -> int:
        return self.spec.max_inflight

    @property
    def output_tokens_per_s(self) -> float:
        return self.service.output_tokens_per_s

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """Learned; None before the first sample. The busiest lane speaks for the backend."""
        lane = self._busiest_lane()
        return None if lane is None else 1.0 / lane.fit.line.token_s

    @property
    def ttft_error_s(self) -> float | None:
        """EWMA of |seen - predicted|; None before the first sample."""
        lane = self._busiest_lane()
        return None if lane is None else lane.fit.error_s

    def _busiest_lane(self) -> Lane | None:
        lane = max(self._lane_list, key=lambda lane: lane.fit.samples, default=None)
        return None if lane is None or lane.fit.at_s == float("-inf") else lane

    @property
    def rtt_s(self) -> float:
        """Measured, else what the distance suggests, else the configured guess."""
        if self.rtt.mean_s is not None:
            return self.rtt.mean_s
        return self._params.rtt_unknown_s if self.rtt_prior_s is None else self.rtt_prior_s

    def serves(self, model: str) -> bool:
        return self.models is not None and model in self.models

    def usable(self, now_s: float) -> bool:
        """May get requests: not draining, not ejected, not asked to stay away."""
        return not self.draining and self.health.state is not State.EJECTED and now_s >= self.not_before_s

    @property
    def doubtful(self) -> bool:
        """Whether ``comes_last`` has to be asked at all."""
        return self.standing.doubtful or self.health.last_probe_ok is False

    def comes_last(self, now_s: float, *, retry: bool) -> bool:
        """It failed lately, or its probe fails and nothing comes: others are to be preferred. A retry is no trial."""
        health = self.health
        if health.state is State.EJECTED and not health.gray:  # used in panic only
            return True
        if retry and health.state is State.PROBATION:
            return True
        return self.standing.comes_last(now_s, health.last_probe_ok is False, retry=retry)

    def fresh_load(self, now_s: float) -> LoadSample | None:
        """The last scrape, or None when it is too old to mean anything."""
        load = self.load
        return load if load is not None and now_s - load.at_s <= self._params.load_fresh_s else None

    # -- what the fleet does ----------------------------------------------------------------------------------------

    def lane(self, model: str, line: Line, now_s: float) -> Lane:
        """The lane of ``model``, opened with ``line`` as its first guess if there is none yet."""
        lane = self.lanes.get(model)
        if lane is None:
            lane = self.lanes[model] = Lane(model, TtftFit(self._params, line, now_s))
            self._lane_list = tuple(self.lanes.values())
        return lane

    def reprice(self) -> None:
        """Make the prices anew from the counts. Called whenever a count changes: keep it short."""
        tokens = self.inflight_uncached_tokens - self._ahead_tokens + self.others_tokens
        mpairs = self.inflight_pairs * _MILLIONTH - self._ahead_mpairs + self.others_mpairs
        requests = self.inflight + self.others_inflight
        wait_s = (requests + 1.0 - self._slots) * self._place_s if requests >= self._slots else 0.0
        for lane in self._lane_list:
            queue_s = tokens * lane.token_s + mpairs * lane.mpair_s
            if queue_s < wait_s:
                queue_s = wait_s
            lane.price = lane.row[lane.place] = (
                lane.fixed_s + queue_s + requests * lane.request_s,
                lane.rate + queue_s * lane.queue_toll + requests * lane.stall,
                lane.curve,
                (queue_s, tokens, mpairs, requests, lane.rates),
            )

    def refresh(self, now_s: float, neutral: Neutral) -> None:
        """Bring everything that ages up to ``now_s``, then the prices."""
        params = self._params
        self._assume_prefilled(now_s)
        share = peers_share(now_s - self.peers_at_s, params)
        load = self.fresh_load(now_s)
        if load is not None:
            scraped_inflight, pressure_s = self.scraped_inflight, neutral.pressure_s
            if load.kv_ratio is not None:
                pressure_s = kv_pressure_s(load.kv_ratio, params)
        else:
            scraped_inflight = neutral.others_inflight
            pressure_s = neutral.pressure_s
        # Peers and the scrape see the same requests: the larger view, not the sum.
        self.others_inflight = max(self.peers_inflight * share, scraped_inflight)
        self.others_tokens = max(self.peers_tokens * share, self.scraped_tokens if load is not None else 0.0)
        if self.mean_uncached_tokens:
            self.others_mpairs = self.others_tokens * self.mean_mpairs / self.mean_uncached_tokens
        self._see_progress(now_s)
        service = self.service
        self._slots = service.slots
        self._place_s = service.place_s
        rtt_s = self.rtt.mean_s
        if rtt_s is None:
            rtt_s = neutral.rtt_s if self.rtt_prior_s is None else self.rtt_prior_s
        handshakes = 0 if now_s - self.last_end_s <= params.warm_s else 2 if self.spec.url.startswith("https") else 1
        late_s = self.late_s(now_s)
        ratio, shared = params.decode_ratio, params.toll_shared_ratio
        decoded = ratio * service.expected_tokens
        for lane in self._lane_list:
            fit = lane.fit
            line, shape = fit.line, fit.common
            lane.set_rates(
                Rates(
                    rtt_s * (1 + handshakes),
                    line.overhead_s,
                    pressure_s,
                    max(fit.residual_s, late_s, -params.residual_floor_ratio * line.overhead_s),
                    self.failure_chance * params.failure_cost_s,
                    shape.token_s,
                    shape.attention_s * _HALF_MILLIONTH,
                    fit.pace,
                    1.0 / self.backlog.speed,
                    line.busy_s,
                    2.0 * decoded * service.itl_busy_s,
                    decoded * service.itl_s,
                    lane.toll,
                    lane.toll * (1.0 - shared),
                    lane.toll * shared * lane.shared_queue_s,
                    ratio,
                )
            )
        self.reprice()

    def _see_progress(self, now_s: float) -> None:
        """The oldest prompt is partly computed: what of it is done is not ahead of anybody any more."""
        self._computed()
        for lease in self.pending:
            price = lease.price
            if price is None or self.inflight + self.others_inflight >= self._slots:
                return
            takes_s = work_s(price, lease.prompt_tokens, lease.uncached_tokens)
            since_s = max(lease.started_s + self.rtt_s / 2, self.health.last_token_s)
            if takes_s > 0.0 and now_s > since_s:
                # Never all of it: as long as its first token has not come, something is left.
                done = min((now_s - since_s) * self.backlog.speed / takes_s, _DONE_MAX)
                self._ahead_tokens = done * lease.uncached_tokens
                self._ahead_mpairs = done * lease.pairs * _MILLIONTH
            return

    def _computed(self) -> None:
        self._ahead_tokens = self._ahead_mpairs = 0.0

    def demand(self, line: Line) -> tuple[float, float]:
        """(requests per second sent here, share of the time that their prefill takes).

        Little's law tells how often others send, from how many of theirs are here and how long an answer takes.
        """
        service = self.service
        others_per_s = self.others_inflight / service.mean_s
        tokens_per_s = service.asked_tokens_per_s + others_per_s * self.mean_uncached_tokens
        mpairs_per_s = service.asked_mpairs_per_s + others_per_s * self.mean_mpairs
        work_per_s = tokens_per_s * line.token_s + mpairs_per_s * line.attention_s
        return service.asked_per_s + others_per_s, work_per_s

    def prefilled(self, lease: Lease) -> bool:
        """The prompt of ``lease`` is computed, or nobody waits for it any more. Returns whether its wait was seen."""
        seen = lease in self.pending
        if seen:
            del self.pending[lease]
            self._computed()
        elif lease in self.unseen:
            del self.unseen[lease]
        else:
            return False
        self.inflight_uncached_tokens -= lease.uncached_tokens
        self.inflight_pairs -= lease.pairs
        return seen

    def late_s(self, now_s: float) -> float:
        """How long the oldest first token is overdue while nothing else came: a lower bound of how slow it is here.

        It is known long before the sample is, and it is all that a frozen engine ever tells.
        """
        for lease in self.pending:
            due_s = lease.started_s + (lease.predicted_ttft_s or 0.0)
            return max(0.0, now_s - max(due_s, self.health.last_token_s))
        return 0.0

    def lower_limit(self, lease: Lease, now_s: float) -> None:
        """It refused ``lease`` because it is full: multiplicative decrease, once per round of requests."""
        if lease.started_s >= self.limit_lowered_s:
            self.limit = max(1.0, min(self.limit, self.inflight + 1.0) * self._params.limit_backoff_ratio)
            self.limit_lowered_s = now_s

    def raise_limit(self) -> None:
        """It served a request: additive increase."""
        self.limit = min(self.limit + 1.0 / self.limit, float(self.spec.max_inflight))

    def take_load(self, sample: LoadSample, now_s: float) -> None:
        """A scrape. What it shows beyond our own requests belongs to others.

        It is late: requests we sent after it was taken are not in it, so they are not subtracted from it.
        """
        self.load = sample
        if sample.kv_capacity_tokens and self.tokens_per_block:
            self.prefix.resize(sample.kv_capacity_tokens / self.tokens_per_block)
        taken_s = sample.at_s - self.rtt_s / 2
        unseen = sum(1 for lease in (*self.pending, *self.unseen) if lease.started_s > taken_s)
        running, waiting = sample.running or 0.0, sample.waiting or 0.0
        self.scraped_inflight = max(0.0, running + waiting - (self.inflight - unseen))
        others_waiting = max(0.0, waiting - (len(self.pending) + len(self.unseen) - unseen))
        self.scraped_tokens = others_waiting * self.mean_uncached_tokens
        if sample.running is not None and sample.waiting is not None:
            self.service.seen(running, waiting, sample.kv_ratio, now_s)

    def learn_models(self, models: Collection[str]) -> bool:
        """The answer of /v1/models. Returns whether it changed anything; what is configured holds."""
        if self.spec.models or self.models == frozenset(models):
            return False
        self.models = frozenset(models)
        self.denials.keep(self.models)
        return True

    def overdue(self, now_s: float) -> int:
        """First tokens that should have come ``gray_floor_s`` ago or earlier."""
        due_s = now_s - self._params.gray_floor_s
        return sum(1 for lease in self.pending if lease.started_s + (lease.predicted_ttft_s or 0.0) < due_s)

    def _assume_prefilled(self, now_s: float) -> None:
        """An answer in one piece shows no first token; its prompt counts as computed when that was predicted."""
        if self.unseen:
            for lease in [u for u in self.unseen if now_s >= u.started_s + (u.predicted_ttft_s or 0.0)]:
                self.prefilled(lease)


def cached_tokens(b: Backend, request: Request) -> float:
    """Tokens of the prompt that ``b`` has probably computed already."""
    matched = b.prefix.match(request.prefix_blocks)
    return min(matched * request.tokens_per_block * b.prefix.trust, float(request.prompt_tokens))
