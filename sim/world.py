"""A world in virtual time: simulated engines, the distances between them, and routers that run the production core.

What the core decides here it would decide in production: it sees probes, scrapes and the counts of the other routers
late by as much as they are late there, and it learns from the first tokens that come back to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any
from zlib import crc32

from router.core.course import Course
from router.core.decisions import Wait
from router.core.fleet import PrefixNews
from router.core.outcomes import Outcome
from router.core.traits import Continues
from router.core.types import Lease, LoadSample, Request, Rng, Usage
from sim.engine import Engine, Job, What
from sim.site import Site
from sim.traces import Arrival, Trace
from sim.world_plan import MachinePlan, WorldPlan

_WARM_UP_S = 3.0  # probes and scrapes run before the first request


class _Machine:
    """One engine and whether it runs."""

    __slots__ = ("block_tokens", "due_s", "engine", "frozen_at_s", "lost_tokens", "name", "plan", "region", "up")

    def __init__(self, plan: MachinePlan, block_tokens: int) -> None:
        self.plan = plan
        self.name = plan.spec.name
        self.region = plan.spec.region.name
        self.block_tokens = block_tokens
        self.up = True
        self.frozen_at_s = inf
        self.due_s = inf
        self.engine = Engine(plan.profile, block_tokens=block_tokens)
        #: of jobs that were cut or stopped: how much of the answer was there
        self.lost_tokens: dict[Job, int] = {}

    def lose(self, job: Job, now_s: float) -> None:
        """Nothing more comes of ``job`` for now."""
        self.lost_tokens.setdefault(job, max(1, self.engine.generated(job, now_s)))

    @property
    def frozen(self) -> bool:
        return self.frozen_at_s < inf


class _Router(Site["Flow"]):
    """With what the other routers have heard of it."""

    def __init__(self, region: str, plan: WorldPlan, policy: str, rng: Rng, world: World) -> None:
        super().__init__(region, plan.params, policy, rng, world, smaller=plan.smaller)
        self.reported: dict[str, tuple[int, int]] = {}


class Flow:
    """One request on its way through the world, over all its attempts."""

    __slots__ = (
        "arrival",
        "asked",
        "begun",
        "cached_tokens",
        "course",
        "ended_s",
        "error",
        "failure",
        "heard_s",
        "job",
        "lease",
        "live",
        "machine",
        "request",
        "said",
        "site",
        "started_s",
        "ttft_s",
        "waited_s",
    )

    def __init__(self, arrival: Arrival, site: _Router, request: Request, now_s: float) -> None:
        self.arrival = arrival
        self.site = site
        self.request = request
        self.started_s = now_s
        self.course = Course(site.fleet, site.policy, request, site.models_of(request, now_s))
        self.asked: list[str] = []  # backends, in the order of the attempts
        self.failure: str | None = None  # how the last attempt ended, if it failed
        self.begun = False  # the client has a part of the answer
        self.said = 0  # tokens of it, from legs that broke off
        self.lease: Lease | None = None
        self.live: list[Lease] = []
        self.job: Job | None = None
        self.machine: _Machine | None = None
        self.ttft_s: float | None = None
        self.cached_tokens = 0
        self.heard_s = 0.0
        self.waited_s: float | None = None
        self.ended_s: float | None = None
        self.error: str | None = None

    @property
    def attempts(self) -> int:
        return len(self.asked)

    @property
    def region(self) -> str | None:
        """Of the engine that served it last."""
        return self.machine.region if self.machine is not None else None


Action = Callable[[Any, Any, float], None]
#: by a router: backend -> requests in flight and their uncached tokens; prompts sent where
_Told = tuple[dict[str, tuple[int, int]], list[PrefixNews]]


class World:
    """One run of one policy. Make a new one for each."""

    def __init__(self, plan: WorldPlan, policy: str, *, block_tokens: int = 64, seed: int = 1) -> None:
        self.plan = plan
        self.now_s = 0.0
        self._block_tokens = block_tokens
        self.flows: list[Flow] = []
        self._rng = random.Random(f"{seed} chance")
        self._noise = random.Random(f"{seed} noise")
        self._heap: list[tuple[float, int, Action, Any, Any]] = []
        self._order = count()
        self._open = 0
        self._specs = [m.spec for m in plan.machines]
        self.machines = {m.spec.name: _Machine(m, block_tokens) for m in plan.machines}
        self.sites = {region: _Router(region, plan, policy, self._rng, self) for region in plan.homes}
        for site in self.sites.values():
            site.fleet.apply(self._specs, 0.0)

    # ---- running

    def run(self, trace: Trace, script: Sequence[tuple[float, Callable[[World, float], None]]] = ()) -> list[Flow]:
        """Play the whole trace. ``script``: what happens to the world, in seconds after the first request."""
        self._start_habits()
        for arrival in trace.arrivals:
            self._push(_WARM_UP_S + arrival.at_s, self._arrive, arrival, trace.block_tokens)
        self._open = len(trace.arrivals)
        for at_s, change in script:
            self._push(_WARM_UP_S + at_s, self._change, change, None)
        heap = self._heap
        while self._open and heap:
            self.now_s, _, action, a, b = heappop(heap)
            action(a, b, self.now_s)
        return self.flows

    def audit(self) -> None:
        """Raises AssertionError unless every router's counts agree with what is in flight."""
        for site in self.sites.values():
            site.fleet.audit()
            live = {f.lease for f in self.flows if f.site is site and f.lease is not None and not f.lease.ended}
            assert live == site.fleet.leases

    def _push(self, at_s: float, action: Action, a: Any, b: Any) -> None:
        heappush(self._heap, (at_s, next(self._order), action, a, b))

    def _change(self, change: Callable[[World, float], None], _: None, now_s: float) -> None:
        change(self, now_s)

    def _way_s(self, site: _Router, machine: _Machine) -> float:
        """From one to the other, once."""
        return self.plan.rtt_s[site.region, machine.region] / 2 * (1.0 + self.plan.jitter * self._noise.random())

    # ---- a request

    def _arrive(self, arrival: Arrival, block_tokens: int, now_s: float) -> None:
        site = self.sites[self.plan.home_of(arrival.region, arrival.session)]
        request = Request(
            request_id=str(len(self.flows)),
            model=(arrival.model if self.plan.many_models else "") or self.plan.model,
            tenant=arrival.tenant,
            prompt_tokens=arrival.prompt_tokens,
            max_output_tokens=arrival.output_tokens,
            prefix_blocks=arrival.blocks,
            tokens_per_block=float(block_tokens) if arrival.blocks else 0.0,
            residency=arrival.residency,
            arrival_s=now_s,
        )
        flow = Flow(arrival, site, request, now_s)
        self.flows.append(flow)
        site.decide(flow, now_s)

    def remind(self, flow: Flow, lease: Lease, due_s: float) -> None:
        """Routers of these worlds do not hedge."""

    def drop(self, flow: Flow, lease: Lease, now_s: float) -> None:
        """None is superseded."""

    def hold(self, flow: Flow, decision: Wait, now_s: float) -> None:
        """The request waits in its router."""
        flow.waited_s = now_s

    def rest(self, flow: Flow, lease: Lease, now_s: float) -> Continues:
        """Any engine that can continue a text may go on."""
        if lease.first_token_s is not None and flow.machine is not None and flow.job is not None:
            flow.said += min(flow.machine.lost_tokens.pop(flow.job, 1), flow.arrival.output_tokens - flow.said)
        flow.request.prompt_tokens = flow.arrival.prompt_tokens + flow.said
        return Continues.TEXT

    def over(self, flow: Flow, error: str | None, now_s: float) -> None:
        """The request has ended."""
        flow.error = error
        flow.ended_s = now_s
        self._open -= 1

    def send(self, flow: Flow, lease: Lease, now_s: float) -> None:
        """An attempt leaves its router."""
        machine = self.machines[lease.backend]
        backend = flow.site.fleet.backends[lease.backend]
        flow.lease, flow.machine, flow.job = lease, machine, None
        flow.asked.append(lease.backend)
        way_s = self._way_s(flow.site, machine)
        if now_s - backend.last_end_s > self.plan.params.warm_s:
            way_s += self.plan.rtt_s[flow.site.region, machine.region]  # a new connection
        if scatter_s := machine.plan.scatter_s:
            # The same request meets the same chance in every world, so that worlds can be compared.
            way_s += scatter_s[crc32(flow.request.request_id.encode()) % len(scatter_s)]
        self._push(now_s + way_s, self._submit, flow, lease)
        self._push(now_s + self.plan.first_token_timeout_s, self._late, flow, lease)

    def _submit(self, flow: Flow, lease: Lease, now_s: float) -> None:
        machine = flow.machine
        assert machine is not None
        if lease.ended or machine.frozen:
            return
        if not machine.up:
            self._push(now_s + self._way_s(flow.site, machine), self._lost, flow, (lease, Outcome.UNREACHABLE))
            return
        self._advance(machine, now_s)
        arrival = flow.arrival
        whole = flow.said // self._block_tokens  # blocks of the answer that are prompt now
        job = Job(
            arrival.prompt_tokens + flow.said,
            max(1, arrival.output_tokens - flow.said),
            (*arrival.blocks, *arrival.answer_blocks[:whole]) if whole else arrival.blocks,
            arrival.answer_blocks[whole:],
            tag=(flow, lease),
        )
        if not machine.engine.fits(job):
            self._push(now_s + self._way_s(flow.site, machine), self._lost, flow, (lease, Outcome.CLIENT_ERROR))
            return
        flow.job = job
        machine.engine.submit(job, now_s)
        self._schedule(machine)

    def _first(self, flow: Flow, lease: Lease, now_s: float) -> None:
        if lease.ended:
            return
        flow.site.first_token(flow, lease, now_s)
        if flow.ttft_s is None:
            flow.ttft_s = now_s - flow.started_s
            assert flow.job is not None
            flow.cached_tokens = flow.job.cached_tokens

    def _done(self, flow: Flow, lease: Lease, now_s: float) -> None:
        if lease.ended:
            return
        job = flow.job
        assert job is not None
        usage = Usage(job.prompt_tokens, job.output_tokens, job.cached_tokens, True)
        flow.site.answered(flow, lease, now_s, usage)

    def _late(self, flow: Flow, lease: Lease, now_s: float) -> None:
        if not lease.ended and lease.first_token_s is None:
            self._abandon(flow, now_s)
            self._lost(flow, (lease, Outcome.FIRST_TOKEN_TIMEOUT), now_s)

    def _stalled(self, flow: Flow, lease: Lease, now_s: float) -> None:
        """No token for too long."""
        if not lease.ended:
            self._abandon(flow, now_s)
            self._lost(flow, (lease, Outcome.TRUNCATED), now_s)

    def _abandon(self, flow: Flow, now_s: float) -> None:
        """Close the connection: the engine forgets the job when it hears of it."""
        if flow.machine is not None and flow.job is not None:
            known = (flow.machine.engine, flow.job)
            self._push(now_s + self._way_s(flow.site, flow.machine), self._abort, flow.machine, known)

    def _abort(self, machine: _Machine, known: tuple[Engine, Job], now_s: float) -> None:
        engine, job = known
        if machine.up and not machine.frozen and machine.engine is engine:
            self._advance(machine, now_s)
            machine.engine.abort(job, now_s)
            self._schedule(machine)

    def _lost(self, flow: Flow, what: tuple[Lease, Outcome], now_s: float) -> None:
        """An attempt failed, and its router learns of it now."""
        lease, outcome = what
        if lease.ended:
            return
        died = flow.job is not None and outcome is Outcome.UNREACHABLE
        flow.site.failed(flow, lease, outcome, now_s, died=died)

    # ---- engines

    def _advance(self, machine: _Machine, now_s: float) -> None:
        for event in machine.engine.advance(now_s):
            flow, lease = event.job.tag
            action = self._first if event.what is What.FIRST else self._done
            # The last token never overtakes the first.
            flow.heard_s = max(flow.heard_s, event.at_s + self._way_s(flow.site, machine))
            self._push(flow.heard_s, action, flow, lease)

    def _schedule(self, machine: _Machine) -> None:
        due_s = machine.engine.next_event_s() if machine.up and not machine.frozen else inf
        if due_s != machine.due_s:
            machine.due_s = due_s
            if due_s < inf:
                self._push(due_s, self._run_machine, machine, due_s)

    def _run_machine(self, machine: _Machine, due_s: float, now_s: float) -> None:
        if machine.due_s == due_s:
            machine.due_s = inf
            self._advance(machine, now_s)
            self._schedule(machine)

    # ---- what happens to engines

    def kill(self, name: str, now_s: float) -> None:
        """The process is gone, with all that it was doing; connections are reset, new ones refused."""
        machine = self.machines[name]
        if not machine.frozen:
            self._advance(machine, now_s)
        for job in machine.engine.jobs() if machine.up else ():
            flow, lease = job.tag
            machine.lose(job, now_s)
            self._push(now_s + self._way_s(flow.site, machine), self._lost, flow, (lease, Outcome.UNREACHABLE))
        machine.up, machine.frozen_at_s = False, inf
        self._schedule(machine)

    def restore(self, name: str, now_s: float) -> None:
        """A new process, with an empty cache."""
        machine = self.machines[name]
        if machine.up:
            self.kill(name, now_s)
        machine.engine = Engine(machine.plan.profile, block_tokens=machine.block_tokens)
        machine.up, machine.frozen_at_s = True, inf
        self._schedule(machine)

    def freeze(self, name: str, now_s: float) -> None:
        """It is there and does nothing; only timeouts tell."""
        machine = self.machines[name]
        if not machine.up or machine.frozen:
            return
        self._advance(machine, now_s)
        machine.frozen_at_s = now_s
        for job in machine.engine.jobs():
            machine.lose(job, now_s)
            if job.first_token_s is not None:
                self._push(now_s + self.plan.token_gap_timeout_s, self._stalled, *job.tag)
        self._schedule(machine)

    def slow_down(self, name: str, factor: float, now_s: float) -> None:
        machine = self.machines[name]
        if not machine.up or machine.frozen:
            return
        self._advance(machine, now_s)
        machine.engine.set_slowdown(factor, now_s)
        self._schedule(machine)

    def in_region(self, region: str) -> list[str]:
        return [name for name, machine in self.machines.items() if machine.region == region]

    # ---- what routers do all the time

    def _start_habits(self) -> None:
        for site in self.sites.values():
            for machine in self.machines.values():
                self._push(self._noise.random() * self.plan.probe_s, self._probe, site, machine)
                self._push(self._noise.random() * self.plan.scrape_s, self._scrape, site, machine)
        if len(self.sites) > 1:
            self._push(self.plan.peers_s, self._exchange, None, None)

    def _probe(self, site: _Router, machine: _Machine, now_s: float) -> None:
        rtt_s = self._way_s(site, machine) + self._way_s(site, machine)
        self._push(now_s + rtt_s, self._probed, (site, machine), rtt_s)
        self._push(now_s + self.plan.probe_s * (0.9 + 0.2 * self._noise.random()), self._probe, site, machine)

    def _probed(self, who: tuple[_Router, _Machine], rtt_s: float, now_s: float) -> None:
        site, machine = who
        well = machine.up and not machine.frozen
        site.fleet.observe_rtt(machine.name, rtt_s if well else None, now_s)
        site.fleet.observe_health(machine.name, well, now_s)
        site.offer(now_s)

    def _scrape(self, site: _Router, machine: _Machine, now_s: float) -> None:
        if machine.up and not machine.frozen:
            self._advance(machine, now_s)
            self._schedule(machine)
            engine = machine.engine
            sample = LoadSample(
                now_s,
                running=float(engine.running),
                waiting=float(engine.waiting),
                kv_ratio=engine.kv_ratio,
                kv_capacity_tokens=float(machine.plan.profile.kv_tokens),
            )
            self._push(now_s + self._way_s(site, machine), self._scraped, (site, machine), sample)
        self._push(now_s + self.plan.scrape_s * (0.9 + 0.2 * self._noise.random()), self._scrape, site, machine)

    def _scraped(self, who: tuple[_Router, _Machine], sample: LoadSample, now_s: float) -> None:
        site, machine = who
        sample.at_s = now_s
        site.fleet.observe_load(machine.name, sample, now_s)

    def _exchange(self, _: None, __: None, now_s: float) -> None:
        """Each router tells the others what it has in flight, and what it has sent where since it told last."""
        told = {
            region: (
                {name: (b.inflight, b.prompts.tokens) for name, b in site.fleet.backends.items() if b.inflight},
                site.fleet.take_prefix_news(),
            )
            for region, site in self.sites.items()
        }
        self._push(now_s + self.plan.peers_late_s, self._hear, told, None)
        self._push(now_s + self.plan.peers_s, self._exchange, None, None)

    def _hear(self, told: Mapping[str, _Told], _: None, now_s: float) -> None:
        for region, (reported, _news) in told.items():
            self.sites[region].reported = reported
        for region, site in self.sites.items():
            if site.policy.hears_prefixes or self.plan.tell_all:
                for teller, (_reported, news) in told.items():
                    for name, blocks in news if teller != region else ():
                        site.fleet.observe_prefix(name, blocks)
            others = [s.reported for s in self.sites.values() if s is not site]
            for name in self.machines:
                reports = [r[name] for r in others if name in r]
                heard = (sum(r[0] for r in reports), sum(r[1] for r in reports))
                others_there = site.fleet.backends[name].others
                # Old news changes nothing as long as what it repeats is held to be fresh.
                repeats = heard == (others_there.peers_inflight, others_there.peers_tokens)
                if not repeats or (heard[0] and now_s - others_there.peers_at_s > self.plan.params.peers_full_s * 0.8):
                    site.fleet.observe_peers(name, *heard, now_s)
