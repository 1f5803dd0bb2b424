"""One router of a simulated world: the production fleet, a policy, and the requests that wait.

It drives the course of each request as ``gateway/lifecycle`` does. Whoever plays the network and the engines is its
``Carrier``, and tells it what became of the attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, Protocol, TypeVar

from router.core.admission import WaitQueue
from router.core.course import Course
from router.core.decisions import Dispatch, Wait
from router.core.degrading import Degrading, Smaller
from router.core.fleet import Fleet
from router.core.hedging import Hedging
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import Policy, make_policy
from router.core.traits import Continues
from router.core.types import Lease, Request, Rng, Usage

_AGAIN_S = 0.1


class Traveller(Hashable, Protocol):
    """One request, over all its attempts."""

    course: Course
    #: how the last attempt ended, if it failed
    failure: str | None
    #: its client has received a part of the answer
    begun: bool
    #: its attempts in flight: one, or two while it is hedged
    live: list[Lease]


F = TypeVar("F", bound=Traveller)
F_contra = TypeVar("F_contra", bound=Traveller, contravariant=True)


class Carrier(Protocol[F_contra]):
    """Plays everything between this router and the answers."""

    def send(self, flow: F_contra, lease: Lease, now_s: float) -> None:
        """An attempt begins."""

    def remind(self, flow: F_contra, lease: Lease, due_s: float) -> None:
        """Call ``Site.hedge`` then."""

    def drop(self, flow: F_contra, lease: Lease, now_s: float) -> None:
        """The attempt is superseded: abort it."""

    def hold(self, flow: F_contra, decision: Wait, now_s: float) -> None:
        """The request waits for a place."""

    def rest(self, flow: F_contra, lease: Lease, now_s: float) -> Continues:
        """The answer broke off at this attempt, or could not be continued there: note what there is of it. Returns
        the least that a backend must be able to, if it is to go on."""

    def over(self, flow: F_contra, error: str | None, now_s: float) -> None:
        """The request has ended: with an answer, or with this error."""


class Site(Generic[F]):
    """``region`` is where the router stands. ``smaller``: the models that have smaller variants."""

    def __init__(
        self,
        region: str,
        params: Params,
        policy: str,
        rng: Rng,
        carrier: Carrier[F],
        hedges: Callable[[Fleet], Hedging] | None = None,
        smaller: Mapping[str, Smaller] | None = None,
    ) -> None:
        self.region = region
        self.fleet = Fleet(params, router_region=region)
        self.policy: Policy = make_policy(policy, params)
        self.queue: WaitQueue[F] = WaitQueue(params)
        self.hedging = hedges(self.fleet) if hedges is not None else None
        self.degrading = Degrading(self.fleet)
        self._smaller = smaller or {}
        self._rng = rng
        self._carrier = carrier

    def models_of(self, request: Request, now_s: float) -> tuple[str, ...]:
        """The models to try, in order: while its own is overloaded a smaller variant comes first."""
        models = (request.model,)
        rule = self._smaller.get(request.model)
        found = self.degrading.choose(request, rule, now_s) if rule is not None else None
        return models if found is None else found.before(models)

    def decide(self, flow: F, now_s: float) -> None:
        """Ask the course for the next step, and take it."""
        course = flow.course
        decision = course.next(now_s, self._rng)
        if isinstance(decision, Dispatch):
            self._send(flow, decision.lease, now_s)
            if self.hedging is not None:
                due_s = self.hedging.sent(decision.lease)
                if due_s < float("inf"):
                    self._carrier.remind(flow, decision.lease, due_s)
        elif isinstance(decision, Wait):
            if self.queue.push(course.request, now_s, flow, kind=course.kind, until_s=decision.until_s):
                self._carrier.hold(flow, decision, now_s)
            else:
                self._carrier.over(flow, "admission_full", now_s)
        else:
            self._carrier.over(flow, flow.failure or decision.reason.value, now_s)

    def _send(self, flow: F, lease: Lease, now_s: float) -> None:
        flow.live.append(lease)
        self._carrier.send(flow, lease, now_s)

    def hedge(self, flow: F, lease: Lease, now_s: float) -> None:
        """The first token of ``lease`` is late, if it has not come: try elsewhere, too."""
        if self.hedging is None or flow.live != [lease]:
            return
        decision = self.hedging.second(flow.course, lease, now_s, self._rng)
        if decision is not None:
            self._send(flow, decision.lease, now_s)
        elif lease.first_token_s is None:  # it may be possible in a moment
            self._carrier.remind(flow, lease, now_s + _AGAIN_S)

    def first_token(self, flow: F, lease: Lease, now_s: float) -> None:
        """The first content token: this attempt answers the request."""
        flow.begun = True
        self.fleet.first_token(lease, now_s)
        if self.hedging is not None:
            self.hedging.came(lease, now_s)
        for other in [other for other in flow.live if other is not lease]:
            self._end(flow, other, Outcome.SUPERSEDED, now_s)
            self._carrier.drop(flow, other, now_s)

    def leave(self, flow: F, now_s: float) -> None:
        """The client has gone."""
        self.queue.remove(flow)
        for lease in list(flow.live):
            self._carrier.drop(flow, lease, now_s)
            self._end(flow, lease, Outcome.CLIENT_GONE, now_s)
        self._carrier.over(flow, "client_gone", now_s)
        self.offer(now_s)

    def _end(
        self,
        flow: F,
        lease: Lease,
        outcome: Outcome,
        now_s: float,
        usage: Usage | None = None,
        again_s: float | None = None,
    ) -> None:
        flow.live.remove(lease)
        if self.hedging is not None and lease.first_token_s is None and outcome is not Outcome.CLIENT_GONE:
            self.hedging.lost(lease, now_s)
        self.fleet.end(lease, outcome, now_s, usage, retry_after_s=again_s)

    def answered(self, flow: F, lease: Lease, now_s: float, usage: Usage | None = None) -> None:
        """The whole answer came."""
        self._end(flow, lease, Outcome.OK, now_s, usage)
        self._carrier.over(flow, None, now_s)
        self.offer(now_s)

    def failed(
        self,
        flow: F,
        lease: Lease,
        outcome: Outcome,
        now_s: float,
        *,
        died: bool = False,
        unsent: bool = False,
        retry_after_s: float | None = None,
        events: int = 0,
    ) -> None:
        """The attempt ended without an answer, or in the middle of one. See ``Course.failed``."""
        if lease.first_token_s is not None and outcome is Outcome.UNREACHABLE:
            outcome = Outcome.TRUNCATED
        self._end(flow, lease, outcome, now_s, again_s=retry_after_s)
        flow.failure = outcome.value
        if flow.live:
            flow.course.lost(lease.backend, died=died)
            self.offer(now_s)
            return
        rest = self._carrier.rest(flow, lease, now_s) if flow.begun else Continues.NO
        stop = flow.course.failed(
            lease.backend, outcome, now_s, died=died, unsent=unsent, begun=flow.begun, rest=rest, events=events
        )
        if stop is None:
            self.decide(flow, now_s)
        else:
            self._carrier.over(flow, outcome.value, now_s)
        self.offer(now_s)

    def offer(self, now_s: float) -> None:
        """Let those who wait try again, as many as there are places, and end the waits that are over."""
        queue = self.queue
        if not len(queue):
            return
        for flow in queue.expire(now_s):
            self._carrier.over(flow, "wait_expired", now_s)
        for _ in range(len(queue)):
            waiting = queue.pop(now_s, lambda flow: flow.course.fits(now_s, self._rng))
            if waiting is None:
                return
            self.decide(waiting, now_s)
