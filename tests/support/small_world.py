"""The core on a virtual clock: requests come, are decided, wait, fail, are tried again, as the gateway does it.

An engine is a function: what it does with an attempt that begins now. There is no network and nothing is drawn by
chance but the policy's own choices, so that a test says exactly what happens to whom.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from router.core.admission import WaitQueue
from router.core.course import Course
from router.core.decisions import Dispatch, Wait
from router.core.fleet import Fleet
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import POLICIES
from router.core.types import Lease, LoadSample, Request, Usage
from tests.support.fleets import fleet_of

FIRST_TOKEN_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Fate:
    """What becomes of an attempt: the first token after ``ttft_s``, if there is one, and the end after ``takes_s``."""

    takes_s: float
    outcome: Outcome = Outcome.OK
    ttft_s: float | None = None
    output_tokens: int = 20


def well(takes_s: float = 0.1, ttft_s: float = 0.05) -> Fate:
    return Fate(takes_s, ttft_s=ttft_s)


def fails(outcome: Outcome = Outcome.SERVER_ERROR, takes_s: float = 0.005) -> Fate:
    return Fate(takes_s, outcome)


def silent() -> Fate:
    """Takes the request and says nothing."""
    return fails(Outcome.FIRST_TOKEN_TIMEOUT, FIRST_TOKEN_TIMEOUT_S)


Engine = Callable[["World", str], Fate]


@dataclass(eq=False)
class Story:
    """One request and what became of it."""

    course: Course
    arrival_s: float
    done_s: float = float("inf")
    ok: bool = False
    waited: bool = False

    @property
    def took_s(self) -> float:
        return self.done_s - self.arrival_s


@dataclass(eq=False)
class World:
    """Backends by name. ``probes`` tells whether a backend's probe is answered, ``scrapes`` what its page says."""

    engines: dict[str, Engine]
    policy: str = "ttft"
    stream: bool = True
    params: Params = field(default_factory=Params)
    probes: Callable[[World, str], bool] = lambda world, name: True
    scrapes: Callable[[World, str], LoadSample | None] = lambda world, name: None
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.fleet: Fleet = fleet_of(*self.engines, params=self.params)
        self.rank = POLICIES[self.policy](self.params)
        self.rng = random.Random(1)
        self.queue: WaitQueue[Story] = WaitQueue(self.params)
        self.stories: list[Story] = []
        self.attempts: Counter[str] = Counter()
        self._numbers = count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._watch()

    def at(self, when_s: float, do: Callable[[], None]) -> None:
        heappush(self._due, (when_s, next(self._numbers), do))

    def load(self, per_s: float, until_s: float, prompt_tokens: int = 100) -> World:
        """Requests at an even pace from now on."""
        for i in range(int((until_s - self.now_s) * per_s)):
            self.ask(self.now_s + i / per_s, prompt_tokens)
        return self

    def ask(self, when_s: float, prompt_tokens: int = 100) -> None:
        number = next(self._numbers)
        request = Request(
            f"r{number}", "llama-3.1-8b", f"t{number % 7}", prompt_tokens, arrival_s=when_s, stream=self.stream
        )
        story = Story(Course(self.fleet, self.rank, request, (request.model,)), when_s)
        self.stories.append(story)
        self.at(when_s, lambda: self._decide(story))

    def run(self, until_s: float) -> World:
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, do = heappop(self._due)
            do()
        self.now_s = until_s
        self.fleet.audit()
        return self

    def between(self, from_s: float, until_s: float) -> list[Story]:
        return [story for story in self.stories if from_s <= story.arrival_s < until_s]

    # -- what the gateway does ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        for name in self.engines:
            self.fleet.observe_health(name, self.probes(self, name), self.now_s)
            self.fleet.observe_rtt(name, 0.001, self.now_s)
            self.fleet.observe_load(name, self.scrapes(self, name), self.now_s)
        self._offer()
        self.at(self.now_s + 1.0, self._watch)

    def _decide(self, story: Story) -> None:
        course = story.course
        decision = course.next(self.now_s, self.rng)
        if isinstance(decision, Dispatch):
            self._attempt(story, decision.lease)
        elif isinstance(decision, Wait):
            story.waited = True
            if not self.queue.push(course.request, self.now_s, story, kind=course.kind, until_s=decision.until_s):
                self._done(story, ok=False)
        else:
            self._done(story, ok=False)

    def _attempt(self, story: Story, lease: Lease) -> None:
        self.attempts[lease.backend] += 1
        fate = self.engines[lease.backend](self, lease.backend)
        if fate.ttft_s is not None and self.stream:
            self.at(self.now_s + fate.ttft_s, lambda: self.fleet.first_token(lease, self.now_s))
        self.at(self.now_s + fate.takes_s, lambda: self._end(story, lease, fate))

    def _end(self, story: Story, lease: Lease, fate: Fate) -> None:
        begun = fate.ttft_s is not None
        usage = Usage(lease.prompt_tokens, fate.output_tokens, None, True) if begun else None
        self.fleet.end(lease, fate.outcome, self.now_s, usage)
        if fate.outcome is Outcome.OK:
            self._done(story, ok=True)
        elif story.course.failed(lease.backend, fate.outcome, self.now_s, begun=begun) is None:
            self._decide(story)
        else:
            self._done(story, ok=False)
        self._offer()

    def _done(self, story: Story, *, ok: bool) -> None:
        story.ok, story.done_s = ok, self.now_s

    def _offer(self) -> None:
        for story in self.queue.expire(self.now_s):
            self._done(story, ok=False)
        for _ in range(len(self.queue)):
            story_or_none = self.queue.pop(self.now_s, lambda waiting: waiting.course.fits(self.now_s, self.rng))
            if story_or_none is None:
                return
            self._decide(story_or_none)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
