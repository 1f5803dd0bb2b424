"""Carries a scenario out in virtual time, with the production core, and has every step checked by ``rules``.

A scenario has two parts. In the first one requests and troubles come as planned. When all troubles are over and every
request has ended, all is calm for a moment, and then the last requests come: every model that somebody serves is asked
for at every router, and each of these must be answered.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

from router.core.cost import distance_rtt_s
from router.core.course import Course
from router.core.decisions import Wait
from router.core.hedging import Hedging
from router.core.outcomes import Outcome
from router.core.traits import Continues
from router.core.types import BackendSpec, Lease, Request, Usage
from sim.seeds.machine import Machine
from sim.seeds.rules import Broken, Rules
from sim.seeds.scenario import Ask, Scenario
from sim.seeds.serving import Serving
from sim.seeds.story import Action, Attempt, Router, Story
from sim.seeds.troubles import KINDS, Trouble
from sim.site import Site

_LOOK_S = 1.0  # between two probes of a backend
_EXCHANGE_S = 0.5
_SWEEP_S = 0.1
_CALM_S = 3.0
_APART_S = 2.0  # between two of the last requests: a slow engine has one place
_CONNECT_S = 3.0
_HEDGE_FLOOR_S = 0.1
_PATIENCE_S = 300.0  # nothing lasts longer than this after the last trouble


class Play:
    """One run of one scenario. ``say`` is given a line for everything that happens."""

    def __init__(self, scenario: Scenario, say: Callable[[str], None] | None = None) -> None:
        self.scenario = scenario
        self._say = say
        self.now_s = scenario.from_s
        self._noise = random.Random(f"noise {scenario.seed}")
        self._heap: list[tuple[float, int, Router | None, Action, tuple[Any, ...]]] = []
        self._order = count()
        self.machines = {box.spec.name: Machine(box) for box in (*scenario.boxes, *scenario.spares)}
        self.serving = Serving(self, random.Random(f"engines {scenario.seed}"))
        self.configured: dict[str, BackendSpec] = {box.spec.name: box.spec for box in scenario.boxes}
        self.drained: list[str] = []
        self.store_paused = 0
        share = scenario.hedge_share
        hedges = (lambda fleet: Hedging(fleet, share=share, floor_s=_HEDGE_FLOOR_S)) if share else None
        chance = random.Random(f"chance {scenario.seed}")
        self.routers = [
            Router(i, Site(region, scenario.params, scenario.policy, chance, self, hedges))
            for i, region in enumerate(scenario.routers)
        ]
        self.stories: list[Story] = []
        self._open = 0
        self._attempts = count(1)
        self.rules = Rules(self)
        self.reload(self.now_s)

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self) -> Play:
        """Raises ``Broken`` when a rule is broken."""
        scenario, began_s = self.scenario, self.now_s
        for router in self.routers:
            for machine in self.machines.values():
                self.at(began_s + _LOOK_S * self._noise.random(), self._look, router, machine, router=router)
        if len(self.routers) > 1:
            self.at(began_s + _EXCHANGE_S, self._exchange)
        for trouble in scenario.troubles:
            self.at(began_s + trouble.at_s, self._begin, trouble)
            self.at(began_s + trouble.until_s, self._end, trouble)
        for ask in scenario.asks:
            self._come(ask, began_s + ask.at_s)
        over_s = began_s + scenario.until_s
        self._until(lambda: not self._open and self.now_s >= over_s, over_s + _PATIENCE_S)
        calm_s = self.now_s + _CALM_S
        self.tell("all is calm")
        self._last_asks(calm_s)
        self._until(lambda: not self._open, calm_s + _PATIENCE_S)
        self.rules.finish()
        return self

    def at(self, when_s: float, action: Action, *arguments: Any, router: Router | None = None) -> None:
        """Do it then. ``router``: by this one, as soon as it can."""
        heappush(self._heap, (when_s, next(self._order), router, action, arguments))

    def tell(self, text: str) -> None:
        if self._say is not None:
            self._say(f"{self.now_s - self.scenario.from_s:9.3f}  {text}")

    def _until(self, done: Callable[[], bool], latest_s: float) -> None:
        heap, rules = self._heap, self.rules
        while not done():
            when_s, order, router, action, arguments = heappop(heap)
            if router is not None and when_s < router.stopped_until_s:
                heappush(heap, (router.stopped_until_s, order, router, action, arguments))
                continue
            self.now_s = when_s
            action(*arguments, when_s)
            rules.step(when_s)
            if when_s > latest_s:
                waiting = ", ".join(str(story) for story in self.stories if not story.ended)
                raise Broken("every request ends", f"{waiting}: not over yet")

    def _come(self, ask: Ask, at_s: float) -> None:
        self._open += 1
        router = self.routers[ask.router]
        self.at(at_s, self._arrive, ask, at_s, router=router)

    def _last_asks(self, from_s: float) -> None:
        number = max([0, *(ask.number for ask in self.scenario.asks)])
        served = {
            model
            for name, spec in self.configured.items()
            if not self.machines[name].deaths and self.drained == []
            for model in spec.models
        }
        for router in self.routers:
            for model in sorted(served):
                number, from_s = number + 1, from_s + _APART_S
                self._come(Ask(number, 0.0, router.number, (model,), 100, 5, "last", last=True), from_s)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _arrive(self, ask: Ask, due_s: float, now_s: float) -> None:
        router = self.routers[ask.router]
        request = Request(
            str(ask.number),
            ask.models[0],
            ask.tenant,
            ask.prompt_tokens,
            ask.output_tokens,
            residency=ask.residency,
            pin_region=ask.pin_region,
            pin_backend=ask.pin_backend,
            affinity=ask.affinity,
            priority=ask.priority,
            arrival_s=now_s,
            deadline_s=now_s + ask.deadline_s,
            stream=ask.stream,
            light=ask.light,
        )
        story = Story(ask, router, Course(router.site.fleet, router.site.policy, request, ask.models))
        self.stories.append(story)
        self.tell(f"{story} comes to router {router.number} for {'/'.join(ask.models)}, {ask.prompt_tokens} tokens")
        if ask.leaves_s < float("inf"):
            self.at(now_s + ask.leaves_s, self._leave, story, router=router)
        router.site.decide(story, now_s)

    def send(self, flow: Story, lease: Lease, now_s: float) -> None:
        """An attempt begins."""
        router, machine = flow.router, self.machines[lease.backend]
        attempt = router.live[lease] = Attempt(next(self._attempts), flow, lease, machine)
        flow.waits = False
        flow.asked.append(lease.backend)
        self.tell(f"{flow} goes to {lease.backend}{', too' if len(flow.live) > 1 else ''}")
        self.rules.sent(flow, lease, now_s)
        scenario = self.scenario
        patience_s = scenario.first_token_s * (1.0 if flow.ask.stream else 3.0)
        self.at(now_s + patience_s, self._late, attempt, router=router)
        if router.nameless and machine.region != router.site.region:
            self.at(now_s + 0.001, self.fail, attempt, Outcome.UNREACHABLE, {"unsent": True}, router=router)
        elif router.short and self._noise.random() < 0.5:
            self.at(now_s, self.fail, attempt, Outcome.OWN_SHORTAGE, {}, router=router)
        elif machine.cut_off:
            self.at(now_s + _CONNECT_S, self.fail, attempt, Outcome.UNREACHABLE, {}, router=router)
        else:
            self.at(now_s + self.way_s(router, machine), self.serving.reach, attempt)

    def remind(self, flow: Story, lease: Lease, due_s: float) -> None:
        """Its first token is late then."""
        site = flow.router.site
        self.at(max(due_s, self.now_s), lambda now_s: site.hedge(flow, lease, now_s), router=flow.router)

    def drop(self, flow: Story, lease: Lease, now_s: float) -> None:
        """The attempt is superseded, or its client has left."""
        self.tell(f"{flow} is dropped at {lease.backend}")
        self._abandon(flow.router.live.pop(lease), now_s)

    def hold(self, flow: Story, decision: Wait, now_s: float) -> None:
        """The request waits."""
        router = flow.router
        flow.waits = True
        self.tell(f"{flow} waits: {decision.reason}")
        self.rules.held(flow, decision, now_s)
        self._watch(router, now_s)

    def rest(self, flow: Story, lease: Lease, now_s: float) -> Continues:
        """Another backend must be able to do what the request calls for."""
        if lease.first_token_s is not None:
            flow.asked = [lease.backend]
            self.rules.broke(flow, lease)
            flow.said += self._said(lease, flow, now_s)
            self.tell(f"{flow} broke off after {flow.said} tokens")
        flow.course.request.prompt_tokens = flow.ask.prompt_tokens + flow.said
        return flow.ask.rest

    def _said(self, lease: Lease, flow: Story, now_s: float) -> int:
        """Tokens that have come from there by now, the last one of the answer not among them."""
        box, began_s = self.machines[lease.backend].box, lease.first_token_s
        assert began_s is not None
        return max(0, min(int((now_s - began_s) / box.token_s) + 1, flow.ask.output_tokens - flow.said - 1))

    def over(self, flow: Story, error: str | None, now_s: float) -> None:
        """The request has ended."""
        self.tell(f"{flow} is answered" if error is None else f"{flow} ends: {error}")
        self.rules.over(flow, error, now_s)
        flow.ended, flow.waits, flow.error = True, False, error
        self._open -= 1

    def _sweep(self, router: Router, now_s: float) -> None:
        router.site.offer(now_s)
        self._take_silenced(router, now_s)
        self.rules.swept(router, now_s)
        router.sweeps = len(router.site.queue) > 0
        if router.sweeps:
            self.at(now_s + _SWEEP_S, self._sweep, router, router=router)

    def _watch(self, router: Router, now_s: float) -> None:
        """See to those who wait and to backends that fell silent, soon and for as long as there are any."""
        if not router.sweeps:
            router.sweeps = True
            self.at(now_s + _SWEEP_S, self._sweep, router, router=router)

    def _take_silenced(self, router: Router, now_s: float) -> None:
        """Who waits for a backend that does not answer any more is tried elsewhere at once."""
        for name in router.site.fleet.take_silenced():
            for attempt in list(router.live.values()):
                if attempt.machine.name == name and attempt.lease.first_token_s is None:
                    self._abandon(attempt, now_s)
                    self.fail(attempt, Outcome.UNREACHABLE, {}, now_s)

    def _leave(self, story: Story, now_s: float) -> None:
        """The client closes its connection."""
        if not story.ended:
            story.router.site.leave(story, now_s)

    # -- attempts, as their router sees them --------------------------------------------------------------------------

    def hear_first(self, attempt: Attempt, now_s: float) -> None:
        if attempt.lease.ended:
            return
        story = attempt.story
        if story.ttft_s is None:
            story.ttft_s = now_s - story.course.request.arrival_s
        story.router.site.first_token(story, attempt.lease, now_s)
        if attempt.machine.frozen:
            self.doubt(attempt, now_s)

    def hear_all(self, attempt: Attempt, now_s: float) -> None:
        lease, story = attempt.lease, attempt.story
        if lease.ended:
            return
        del story.router.live[lease]
        usage = Usage(lease.prompt_tokens, story.ask.output_tokens - story.said, 0, True)
        story.router.site.answered(story, lease, now_s, usage)

    def fail(self, attempt: Attempt, outcome: Outcome, how: dict[str, Any], now_s: float) -> None:
        lease, story = attempt.lease, attempt.story
        if lease.ended:
            return
        self.tell(f"{story} fails at {lease.backend}: {outcome.value}{' (died)' if how.get('died') else ''}")
        del story.router.live[lease]
        if how.get("unsent"):
            self.rules.unsent(story)
        self.rules.failing(story, lease, outcome)
        events = self._said(lease, story, now_s) if lease.first_token_s is not None else 0
        story.router.site.failed(story, lease, outcome, now_s, events=events, **how)
        self._watch(story.router, now_s)

    def _late(self, attempt: Attempt, now_s: float) -> None:
        if not attempt.lease.ended and attempt.lease.first_token_s is None:
            self._abandon(attempt, now_s)
            self.fail(attempt, Outcome.FIRST_TOKEN_TIMEOUT, {}, now_s)

    def doubt(self, attempt: Attempt, now_s: float) -> None:
        self.at(now_s + self.scenario.token_gap_s, self._stalled, attempt, router=attempt.story.router)

    def _stalled(self, attempt: Attempt, now_s: float) -> None:
        """No token for too long."""
        if attempt.lease.first_token_s is None:  # still on its way to a client that waits: see ``_late``
            return
        if not attempt.lease.ended and (attempt.machine.frozen or attempt.life != attempt.machine.life):
            self._abandon(attempt, now_s)
            self.fail(attempt, Outcome.TRUNCATED, {}, now_s)

    def lost(self, attempt: Attempt, now_s: float) -> None:
        """The connection broke."""
        died = attempt.lease.first_token_s is None
        attempt.story.killed += attempt.story.ask.deadly and not attempt.lease.ended and died
        self.fail(attempt, Outcome.UNREACHABLE, {"died": died}, now_s)

    def _abandon(self, attempt: Attempt, now_s: float) -> None:
        self.at(now_s + self.way_s(attempt.story.router, attempt.machine), self.serving.drop, attempt)

    # -- the network --------------------------------------------------------------------------------------------------

    def way_s(self, router: Router, machine: Machine) -> float:
        """From one to the other, once."""
        if "far" in machine.ills:
            return 0.4
        if router.site.region == machine.region:
            return 0.0005
        regions = self.scenario.regions
        here, there = regions[router.site.region].location, regions[machine.region].location
        assert here is not None
        assert there is not None
        return distance_rtt_s(here, there, self.scenario.params) / 2 * (1.0 + 0.05 * self._noise.random())

    # -- what routers do all the time ---------------------------------------------------------------------------------

    def _look(self, router: Router, machine: Machine, now_s: float) -> None:
        """A probe and a scrape."""
        rtt_s = 2.0 * self.way_s(router, machine)
        ok = machine.takes_probe()
        heard_s = now_s + (1.0 if machine.frozen else rtt_s)
        self.at(heard_s, self._looked, router, machine, ok, machine.sample(now_s), rtt_s, router=router)
        self.at(now_s + _LOOK_S * (0.9 + 0.2 * self._noise.random()), self._look, router, machine, router=router)

    def _looked(self, router: Router, machine: Machine, ok: bool, sample: Any, rtt_s: float, now_s: float) -> None:
        fleet = router.site.fleet
        fleet.observe_health(machine.name, ok, now_s)
        if self._noise.random() < 0.5:  # scrapes come late, or not at all
            fleet.observe_load(machine.name, sample, now_s)
        else:
            fleet.observe_rtt(machine.name, rtt_s if ok else None, now_s)
        if not ok:
            self._watch(router, now_s)

    def _exchange(self, now_s: float) -> None:
        """Each router hears what the others had in flight at the last exchange that worked."""
        self.at(now_s + _EXCHANGE_S, self._exchange)
        if self.store_paused:
            return
        for router in self.routers:
            others = [other for other in self.routers if other is not router]
            for name in self.machines:
                reports = [other.reported[name] for other in others if name in other.reported]
                inflight, tokens = sum(r[0] for r in reports), sum(r[1] for r in reports)
                known = router.site.fleet.backends.get(name)
                if inflight or (known is not None and known.others.peers_inflight):
                    router.site.fleet.observe_peers(name, inflight, tokens, now_s)
            for other in others:
                for name, blocks in other.news:
                    router.site.fleet.observe_prefix(name, blocks)
        for router in self.routers:
            backends = router.site.fleet.backends
            router.reported = {name: (b.inflight, b.prompts.tokens) for name, b in backends.items() if b.inflight}
            router.news = router.site.fleet.take_prefix_news()

    # -- troubles -----------------------------------------------------------------------------------------------------

    def reload(self, now_s: float) -> None:
        """Every router takes the configuration over."""
        for router in self.routers:
            router.site.fleet.apply(list(self.configured.values()), now_s)

    def _begin(self, trouble: Trouble, now_s: float) -> None:
        self.tell(f"* {trouble}")
        KINDS[trouble.kind].begin(self, trouble, now_s)

    def _end(self, trouble: Trouble, now_s: float) -> None:
        self.tell(f"* over: {trouble.kind} of {trouble.where}")
        KINDS[trouble.kind].end(self, trouble, now_s)
