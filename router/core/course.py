"""The course of one request over its attempts: which backend next, whether to wait, when to stop.

Whoever carries requests out drives one ``Course`` for each: ``router/gateway`` with real connections, ``sim/world`` in
virtual time, ``router explain`` without doing anything. The driver asks ``next``, does what the answer says, and
reports with ``failed`` what became of an attempt. All rules about retries are here and in ``outcomes.CONSEQUENCES``:

* a backend that failed the request is not asked again;
* when a backend could not be reached, or died, the rest of its region is asked only when nothing else is left: it may
  be dying, and a second death would be held against the request;
* a model that nobody can serve now falls back to the next one of its alias;
* there are ``Params.attempts_max`` attempts at most, and retries of most kinds count against the region's budget;
* a request of which ``Params.deaths_max`` backends died goes nowhere any more: it may be the cause;
* once the client has received content, the answer is not started over. Another backend of the same model continues
  it, if that is safe: up to ``Params.breaks_max`` times, whatever the budget says, for nothing is multiplied by it.
  A *leg* is an attempt of which the client has received a part; a *break* ends it. Each leg may take as many attempts
  as a new request may, and may go to any backend but the one that broke it: the others have proved themselves, or are
  back. A leg that goes well beyond its beginning pardons the deaths before it: what kills engines does so again where
  it did, and a region that is switched off twice is not the fault of the requests that were there. For the same reason
  an answer that is started over pardons them when it ends well before or behind the place where it did.
"""

from __future__ import annotations

from enum import Enum

from router.core.decisions import Decision, Dispatch, Wait
from router.core.fleet import Fleet
from router.core.outcomes import CONSEQUENCES, Outcome, Retry
from router.core.policy.base import Policy
from router.core.traits import Continues
from router.core.types import Request, Rng, Value

_NOBODY: frozenset[str] = frozenset()


class Stop(Enum):
    """Why a course ended without an answer. The values are shown to operators: keep them stable."""

    REJECTED = "rejected"  # no backend is left, and waiting would not help
    RULE = "rule"  # failures of this kind are not retried
    BEGUN = "begun"  # the client has received a part of the answer, and nobody else can continue it
    BREAKS = "breaks"
    ATTEMPTS = "attempts"
    DEADLY = "deadly"
    DEADLINE = "deadline"
    BUDGET = "budget"


#: Decides whether a free place is of use to a waiting request.
WaitKind = tuple[str, frozenset[str] | None, tuple[str | None, str | None], str, frozenset[str], Continues]


class Course(Value, eq=False):
    """One request on its way. ``models`` are those to try, in order; ``request.model`` is the one being tried.

    Lives as long as its request. ``tried`` has the backends that failed it, ``attempts`` counts the dispatches,
    ``breaks`` the legs that broke, and ``stop`` says why it ended, None as long as it goes on or when it was answered.
    """

    fleet: Fleet
    policy: Policy
    request: Request
    models: tuple[str, ...]
    attempts: int = 0
    tried: frozenset[str] = _NOBODY
    #: backends in a region where one could not be reached or died: asked when nothing else is left
    shunned: frozenset[str] = _NOBODY
    breaks: int = 0
    #: backends that died of it, as far as it can be told
    dead: frozenset[str] = _NOBODY
    #: deaths that are held against it from before
    suspicion: int = 0
    stop: Stop | None = None
    _died_at: int | None = None  # how many events the attempt had that a backend died of last
    _spent: int = 0  # attempts up to the latest break
    _place: int = 0  # of the current model in ``models``

    def next(self, now_s: float, rng: Rng, *, dry_run: bool = False) -> Decision:
        """Where the request goes now.

        A ``Dispatch`` counts as an attempt; its lease is counted in the fleet and must be ended there. ``Wait``: ask
        again when a place may be free. ``Reject``: nobody can serve it and the course has ended. A dry run counts
        nothing, and ends nothing.
        """
        models = self.models
        while True:
            self.request.model = models[self._place]
            decision = self._decide(now_s, rng, dry_run)
            if type(decision) is Dispatch:
                if not dry_run:
                    self.attempts += 1
                return decision
            if isinstance(decision, Wait):
                if decision.wakes and not dry_run:  # what runs then is another process
                    self.tried, self.shunned, self._spent = _NOBODY, _NOBODY, self.attempts
                return decision
            if self._place + 1 >= len(models) or self.request.continues:  # another model cannot continue it
                if not dry_run:
                    self.stop = Stop.REJECTED
                return decision
            self._place += 1

    def failed(
        self,
        backend: str,
        outcome: Outcome,
        now_s: float,
        *,
        died: bool = False,
        unsent: bool = False,
        begun: bool = False,
        rest: Continues = Continues.NO,
        events: int = 0,
        place: int | None = 0,
    ) -> Stop | None:
        """An attempt ended without an answer, or before the end of it. Returns None when ``next`` may be asked again,
        else why not. Takes a retry from the budget when it allows one.

        ``died``: the backend broke off as a process does that is killed by what it was sent.
        ``unsent``: nothing has left this router, and at once, as with a host name that leads nowhere. It does not count
        as an attempt: a region without names must not use up the attempts that another one would have served.
        ``begun``: the client has received a part of the answer. ``rest``: the least that a backend must be able to, if
        it is to continue it; NO: nobody can. ``events``: how many events of content this attempt added. ``place``: how
        many it had that the client has not got, as when a whole answer is put together; None: that is not known.
        """
        fleet = self.fleet
        if begun and CONSEQUENCES[outcome].retry is Retry.CONTINUE:
            self.breaks += 1
            self._spent = self.attempts
            self.tried, self.shunned = _NOBODY, _NOBODY
        self.tried |= {backend}
        if died or outcome is Outcome.UNREACHABLE:
            self.shunned |= fleet.neighbours(backend)
        self.attempts -= unsent
        elsewhere = 0 if begun or place is None or self._died_at is None else abs(place - self._died_at)
        if max(events, elsewhere) >= fleet.params.pardon_events:
            self.dead = _NOBODY
        if died:
            self.dead |= {backend}
            self._died_at = place
        self.request.continues = rest
        self.stop = self._judge(backend, outcome, now_s, begun=begun)
        return self.stop

    def lost(self, backend: str, *, died: bool = False) -> None:
        """One of two attempts at the same time ended, and the other one goes on: no retry is needed."""
        self.tried |= {backend}
        if died:
            self.dead |= {backend}

    def beside(
        self, backend: str, now_s: float, rng: Rng, *, only: str | None = None, dry_run: bool = False
    ) -> Dispatch | None:
        """A second attempt beside the one at ``backend``. It counts as an attempt. None: nobody may be asked.

        ``only``: at this backend. A request that may be the cause of a death is not sent to two at the same time.
        """
        params, request = self.fleet.params, self.request
        if self.dead or self.suspicion or self.attempts - self._spent >= params.attempts_max:
            return None
        if now_s >= request.deadline_s or request.pin_backend is not None:
            return None
        exclude = self.tried | {backend}
        shunned = self.shunned if only is None else self.shunned | self.fleet.backends.keys() - {only}
        decision = self.fleet.decide(
            request, self.policy, now_s, rng, exclude=exclude, shunned=shunned, dry_run=dry_run
        )
        if not isinstance(decision, Dispatch):
            return None
        if not dry_run:
            self.attempts += 1
        return decision

    def fits(self, now_s: float, rng: Rng) -> bool:
        """Whether a request that waits would go on now, judged by the policy it chose. Counts nothing."""
        return not isinstance(self._decide(now_s, rng, True), Wait)

    def may_move(self, backend: str, rest: Continues, now_s: float, rng: Rng) -> bool:
        """Whether another backend could go on now with what ``backend`` is answering. Counts nothing."""
        request = self.request
        needed, request.continues = request.continues, rest
        decision = self.fleet.decide(request, self.policy, now_s, rng, exclude={backend}, dry_run=True)
        request.continues = needed
        return isinstance(decision, Dispatch) and self.breaks < self.fleet.params.breaks_max

    def is_last_hope(self, backend: str, now_s: float, rng: Rng) -> bool:
        """Whether nobody else would be asked now, if ``backend`` were left before it was sent anything. Counts
        nothing."""
        if now_s >= self.request.deadline_s:
            return False
        if self._place + 1 < len(self.models) and not self.request.continues:
            return False
        return not self.may_start_over(backend, now_s, rng)

    def may_start_over(self, backend: str, now_s: float, rng: Rng) -> bool:
        """Whether another backend would be asked now, if ``backend`` were left before its first token. Counts
        nothing."""
        if self.attempts - self._spent >= self.fleet.params.attempts_max or now_s >= self.request.deadline_s:
            return False
        exclude = self.tried | {backend}
        decision = self.fleet.decide(self.request, self.policy, now_s, rng, exclude=exclude, dry_run=True)
        return isinstance(decision, Dispatch)

    @property
    def kind(self) -> WaitKind:
        """Equal for requests that the same free places are of use to."""
        request = self.request
        pins = (request.pin_region, request.pin_backend)
        return request.model, request.residency, pins, self.policy.name, self.tried, request.continues

    def _judge(self, backend: str, outcome: Outcome, now_s: float, *, begun: bool) -> Stop | None:
        params = self.fleet.params
        rule = CONSEQUENCES[outcome].retry
        if begun and not self.request.continues:
            return Stop.BEGUN
        if self.suspicion + len(self.dead) >= params.deaths_max:
            return Stop.DEADLY
        if rule is Retry.NO:
            return Stop.RULE
        if self.breaks > params.breaks_max:
            return Stop.BREAKS
        if self.attempts - self._spent >= params.attempts_max:
            return Stop.ATTEMPTS
        if now_s >= self.request.deadline_s:
            return Stop.DEADLINE
        if rule is Retry.IN_BUDGET and not self.fleet.may_retry(backend, self.request, self.tried, now_s):
            return Stop.BUDGET
        return None

    def _decide(self, now_s: float, rng: Rng, dry_run: bool) -> Decision:
        if self.shunned:
            decision = self.fleet.decide(
                self.request, self.policy, now_s, rng, exclude=self.tried, shunned=self.shunned, dry_run=dry_run
            )
            if isinstance(decision, Dispatch):
                return decision
        return self.fleet.decide(self.request, self.policy, now_s, rng, exclude=self.tried, dry_run=dry_run)
