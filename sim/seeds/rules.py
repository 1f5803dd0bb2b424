"""The rules that every scenario keeps, whatever happens in it. They are checked at every step, by what is told to them.

A rule that is broken raises ``Broken`` with the rule's name, which says the promise, and what was seen instead.
"""

from __future__ import annotations

from collections import deque
from math import isfinite
from typing import TYPE_CHECKING

from router.core.backend import Backend
from router.core.candidates import unfit, who_serves
from router.core.decisions import RejectReason, Wait
from router.core.health import State
from router.core.outcomes import CONSEQUENCES, Outcome, Retry
from router.core.traits import Continues
from router.core.types import Lease, Priority

if TYPE_CHECKING:
    from sim.seeds.play import Play
    from sim.seeds.story import Router, Story

_AUDIT_STEPS = 64  # between two looks at every count
_WINDOW_S = 10.0
_BUCKET_S = 1.0
#: first attempts are counted at the next tick of their backend, which a router that gets no time has late
_LATE_S = 1.0
_REJECTIONS = frozenset(reason.value for reason in RejectReason)


class Broken(Exception):  # noqa: N818 - not an error of the simulation
    """A rule is broken."""

    def __init__(self, rule: str, seen: str) -> None:
        super().__init__(f"{rule}: {seen}")
        self.rule = rule
        self.seen = seen

    def __reduce__(self) -> tuple[type[Broken], tuple[str, str]]:
        return Broken, (self.rule, self.seen)


class Rules:
    """Watches one play."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._params = play.scenario.params
        self._steps = 0
        self._states: dict[tuple[int, str], State] = {}
        #: first attempts and retries in budget by (router, region), the latest last
        self._firsts: dict[tuple[int, str], deque[float]] = {}
        self._retries: dict[tuple[int, str], deque[float]] = {}
        #: of a story whose attempt has just failed: the region whose budget another attempt needs
        self._needs: dict[Story, str] = {}
        self._unsent: dict[Story, int] = {}
        steps_s = [trouble.for_s for trouble in play.scenario.troubles if trouble.kind == "clock step"]
        self._late_s = _LATE_S + sum(steps_s)
        self._attempts = self._hedges = 0

    # -- attempts -----------------------------------------------------------------------------------------------------

    def sent(self, story: Story, lease: Lease, now_s: float) -> None:
        """An attempt begins."""
        request, course, fleet = lease.request, story.course, story.router.site.fleet
        backend = fleet.backends.get(lease.backend)
        if backend is None:
            raise Broken("only configured backends are asked", f"{story} went to {lease.backend}")
        where = f"{story} went to {lease.backend}"
        self._attempts += 1
        if story.ended:
            raise Broken("a request that has ended is not sent", where)
        if story.asked.count(lease.backend) > 1:
            raise Broken("no backend is asked twice", where)
        if lease.backend in course.tried:
            raise Broken("no backend that failed a request is asked again", where)
        # Those asked begin with the backend where the answer broke off.
        if len(story.asked) - (course.breaks > 0) - self._unsent.get(story, 0) > self._params.attempts_max:
            raise Broken("attempts are limited", f"{where} in attempt {len(story.asked)}")
        if backend.draining:
            raise Broken("a backend that drains gets no request", where)
        if backend.leaving is not None:
            raise Broken("a backend that goes away gets no request", where)
        if (why := unfit(backend, request)) is not None:
            raise Broken("residency and pins hold for every attempt", f"{where}, which is struck for {why.value}")
        if not backend.serves(request.model) or request.model not in course.models:
            raise Broken("only backends of a model that was asked for are used", where)
        if now_s < backend.capacity.not_before_s:
            early_s = backend.capacity.not_before_s - now_s
            raise Broken("a backend that asked for a pause gets it", f"{where} {early_s:g} s early")
        if (
            backend.inflight > max(1.0, backend.capacity.limit)
            and not request.light
            and backend.inflight - 1 >= backend.capacity.limit
        ):
            raise Broken(
                "limits in flight hold", f"{where}, {backend.inflight} in flight, limit {backend.capacity.limit:g}"
            )
        panic = backend.state is State.EJECTED and not backend.health.down
        if lease.probation and len(backend.trials) > self._params.trial_places and not request.light and not panic:
            raise Broken("a backend on its way back gets a few trials", f"{where}, {len(backend.trials)} trials")
        if len(course.dead) >= self._params.deaths_max:
            raise Broken("a request that kills engines is stopped", where)
        if request.deadline_s <= now_s and len(story.asked) > 1 and not story.waits:
            raise Broken("no retry after the deadline", where)
        if course.breaks > self._params.breaks_max:
            raise Broken("an answer breaks off a few times at most", f"{where} after {course.breaks} breaks")
        if story.begun and not (Continues.NO < story.ask.rest <= backend.continues):
            raise Broken("only who can continue an answer does", f"{where}, which can {backend.continues.word}")
        if len(story.live) > 1:
            self._hedged(story, where)
        key = (story.router.number, backend.region)
        if len(story.asked) == 1:
            self._firsts.setdefault(key, deque()).append(now_s)
        self._count_retry(story, now_s)

    def _hedged(self, story: Story, where: str) -> None:
        """A second attempt begins beside the first."""
        self._hedges += 1
        if self._hedges > self._play.scenario.hedge_share * self._attempts:
            raise Broken(
                "hedges stay within their budget", f"{where}: hedge {self._hedges} of {self._attempts} attempts"
            )
        if len(story.live) > 2 or story.hedged:
            raise Broken("a request is hedged once", where)
        story.hedged = True
        request, course = story.course.request, story.course
        if story.begun or course.dead or request.light or not request.stream or request.pin_backend is not None:
            raise Broken("only requests that bear it are hedged", where)

    def failing(self, story: Story, lease: Lease, outcome: Outcome) -> None:
        """An attempt is about to be reported as failed."""
        begun = lease.first_token_s is not None
        self._needs.pop(story, None)
        if not begun and CONSEQUENCES[outcome].retry is Retry.IN_BUDGET:
            backend = story.router.site.fleet.backends.get(lease.backend)
            if backend is not None:
                self._needs[story] = backend.region

    def broke(self, story: Story, lease: Lease) -> None:
        """The answer broke off at this attempt."""
        self._unsent.pop(story, None)
        if story.course.request.model != lease.request.model:
            raise Broken("an answer is continued by the same model", str(story))

    def unsent(self, story: Story) -> None:
        """The attempt that is about to be reported as failed has not left the router."""
        self._unsent[story] = self._unsent.get(story, 0) + 1

    def _count_retry(self, story: Story, now_s: float) -> None:
        """If this goes on after a failure whose retries have a budget, count it there."""
        if (region := self._needs.pop(story, None)) is None:
            return
        key = (story.router.number, region)
        retries = self._retries.setdefault(key, deque())
        retries.append(now_s)
        firsts = self._firsts.get(key, deque())
        while firsts and firsts[0] < now_s - _WINDOW_S - self._late_s:
            firsts.popleft()
        while retries[0] < now_s - _WINDOW_S + _BUCKET_S:
            retries.popleft()
        params, requests = self._params, len(firsts)
        hopeful = params.retry_floor_per_s * params.retry_window_s + params.retry_ratio * requests
        hopeless = params.retry_hopeless_floor_per_s * params.retry_window_s + params.retry_hopeless_ratio * requests
        if len(retries) > max(hopeful, hopeless):
            seen = f"{len(retries)} in {key[1]}, {max(hopeful, hopeless):g} allowed by {requests} requests"
            raise Broken("retries stay within their budget", seen)

    # -- waiting and ending -------------------------------------------------------------------------------------------

    def held(self, story: Story, decision: Wait, now_s: float) -> None:
        """A request begins to wait."""
        if story.ended:
            raise Broken("a request that has ended does not wait", str(story))
        self._count_retry(story, now_s)
        story.until_s = decision.until_s
        if decision.until_s > min(story.course.request.deadline_s, now_s + self._params.wait_max_s) + 1e-6:
            raise Broken("waits are limited", f"{story} until {decision.until_s - now_s:g} s from now")

    def over(self, story: Story, error: str | None, now_s: float) -> None:
        """A request ends."""
        if story.ended:
            raise Broken("every request ends once", f"{story} has ended a second time: {error}")
        if story.ask.deadly and story.killed > self._params.deaths_max:
            raise Broken("a request that kills engines is stopped", f"{story} has killed {story.killed}")
        if story.ask.last and error is not None:
            raise Broken("a fleet that is well answers", f"{story} for {story.ask.models[0]} ends: {error}")
        if error in _REJECTIONS:
            for b in story.router.site.fleet.backends.values():
                if self._has_room(b, story, now_s):
                    raise Broken("nobody is turned away while a backend is well and has room", f"{story}: {b.name}")

    def swept(self, router: Router, now_s: float) -> None:
        """Those who wait were just offered what is free."""
        for story in self._play.stories:
            if story.waits and story.router is router:
                if now_s > story.until_s:
                    raise Broken("waits are limited", f"{story} waits {now_s - story.until_s:g} s too long")
                self._may_wait(story, now_s)

    def _may_wait(self, story: Story, now_s: float) -> None:
        course = story.course
        request, policy = course.request, course.policy
        free = [b for b in story.router.site.fleet.backends.values() if self._has_room(b, story, now_s)]
        if not free:
            return
        if policy.binds_late and not course.tried:
            params = self._params
            patience_s = params.slack_queue_s if request.priority is Priority.BATCH else params.late_queue_s
            queues_s = [b.lanes[request.model].ahead.queue_s for b in free if request.model in b.lanes]
            if min(queues_s, default=0.0) > patience_s:
                return
        raise Broken("nobody waits while a backend is well and has room", f"{story}: {free[0].name}")

    def _has_room(self, b: Backend, story: Story, now_s: float) -> bool:
        """Nothing at all speaks against ``b``, as far as the router knows."""
        course = story.course
        request = course.request
        return (
            b.serves(request.model)
            and not b.denials.holds(request.model)
            and not b.draining
            and b.leaving is None
            and b.state in (State.HEALTHY, State.SUSPECT)
            and b.health.share(now_s) == 1.0
            and not b.doubtful
            and now_s >= b.capacity.not_before_s + self._params.tick_s  # it is asked again from the next tick on
            and b.inflight < b.capacity.limit
            and unfit(b, request, course.tried) is None
        )

    # -- every step ---------------------------------------------------------------------------------------------------

    def step(self, now_s: float) -> None:
        """Something has happened."""
        self._steps += 1
        thorough = self._steps % _AUDIT_STEPS == 0
        for router in self._play.routers:
            fleet = router.site.fleet
            if fleet.leases != router.live.keys():
                seen = f"router {router.number} has {len(fleet.leases)} leases, {len(router.live)} run"
                raise Broken("requests in flight are counted right", seen)
            if router.seen != fleet.bulletin.generation:
                router.seen = fleet.bulletin.generation
                self._states_of(router)
            if thorough:
                self._audit(router)

    def _states_of(self, router: Router) -> None:
        """The filters have news: look who was ejected."""
        for b in router.site.fleet.backends.values():
            key = (router.number, b.name)
            state = b.health.state
            if state is not self._states.get(key):
                self._states[key] = state
                if state is State.EJECTED and not b.health.down:
                    self._judged(router, b)

    def _judged(self, router: Router, judged: Backend) -> None:
        """``judged`` was ejected by judgement, which has a limit."""
        backends = router.site.fleet.backends.values()
        for model in judged.models or ():
            serving = who_serves(backends, model)
            ejected = [b.name for b in serving if b.state is State.EJECTED]
            if len(ejected) > max(1, int(self._params.ejected_max_ratio * len(serving))):
                seen = f"{judged.name} is ejected, too: {', '.join(ejected)} of {len(serving)} for {model}"
                raise Broken("judgement ejects a share of the fleet at most", seen)

    def _audit(self, router: Router) -> None:
        site = router.site
        try:
            site.fleet.audit()
        except AssertionError as error:
            raise Broken("requests in flight are counted right", str(error)) from error
        waiting = sum(story.waits and story.router is router for story in self._play.stories)
        if len(site.queue) != waiting:
            raise Broken("the queue has those who wait", f"{len(site.queue)} in the queue, {waiting} wait")
        for b in site.fleet.backends.values():
            if not 1.0 <= b.capacity.limit <= b.spec.max_inflight:
                raise Broken(
                    "learned limits stay in their bounds", f"{b.name}: {b.capacity.limit:g} of {b.spec.max_inflight}"
                )
            numbers = [
                b.others_inflight,
                b.others_tokens,
                b.rtt_s,
                b.reputation.failure_chance,
                float(b.prompts.tokens),
            ]
            for lane in b.lanes.values():
                numbers += [*lane.quote[:3], lane.ahead.queue_s, lane.ahead.tokens, lane.ahead.requests]
            if not all(isfinite(number) and number >= -1e-6 for number in numbers):
                raise Broken("costs are finite and not negative", f"{b.name}: {numbers}")

    def finish(self) -> None:
        """The play is over."""
        play = self._play
        for router in play.routers:
            self._audit(router)
            if router.site.fleet.leases or len(router.site.queue) or router.live:
                raise Broken("nothing is left behind", f"router {router.number}: {router.site.fleet}")
            if router.site.fleet.retired:
                raise Broken("nothing is left behind", f"retired: {', '.join(router.site.fleet.retired)}")
        for story in play.stories:
            if not story.ended:
                raise Broken("every request ends", f"{story} has not ended")
