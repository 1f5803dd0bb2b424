"""Whether a backend can be trusted: one table of states and events, and the counters that raise the events.

``TABLE`` is total: every state meets every event. Draining is not a state here: an operator's wish is orthogonal to
health. ``Health`` only counts and proposes an event; the fleet, which sees all backends, may soften it (never too many
ejected) before it is fired.

Two kinds of ejection. *Down*: nobody answers (connections refused, probes failing while no token comes). It is certain,
so it is not limited to a share of the fleet, and it ends as soon as probes are good. *Judged*: it answers, but badly.
It is limited, ignored in panic, and ends by time, because probes were good all along. A judged one that turns out to be
down (its streams broke first, then nobody listened) becomes the certain kind.
"""

from __future__ import annotations

from enum import Enum

from router.core.params import Params


class State(Enum):
    HEALTHY = "healthy"
    SUSPECT = "suspect"  # served, watched
    EJECTED = "ejected"  # gets nothing
    PROBATION = "probation"  # gets a few trials


class Event(Enum):
    SUCCESS = "success"
    FAULT = "fault"  # below every limit
    TRIP = "trip"  # consecutive faults or the failure ratio are over the limit
    GRAY = "gray"  # answers, far slower than its siblings
    DOWN = "down"  # unreachable, or probes fail while no token comes
    PROBES_DOUBTED = "probes_doubted"  # probes fail while tokens come
    PROBES_GOOD = "probes_good"
    TIME_UP = "time_up"  # of the ejection, or of the probation
    TRIALS_PASSED = "trials_passed"
    RESET = "reset"  # an operator, or another engine behind the same name


class Effect(Enum):
    NONE = "none"
    CLEAR = "clear"  # forget counted faults
    EJECT_DOWN = "eject_down"
    EJECT_JUDGED = "eject_judged"
    FOUND_DOWN = "found_down"  # what was judged is down
    TRY = "try"  # open the trial places
    WELCOME = "welcome"  # slow start


_H, _S, _E, _P = State.HEALTHY, State.SUSPECT, State.EJECTED, State.PROBATION
_NONE, _CLEAR = Effect.NONE, Effect.CLEAR
_DOWN, _JUDGED = Effect.EJECT_DOWN, Effect.EJECT_JUDGED

#: (state, event) -> (next state, effect)
TABLE: dict[tuple[State, Event], tuple[State, Effect]] = {
    (_H, Event.SUCCESS): (_H, _CLEAR),
    (_H, Event.FAULT): (_S, _NONE),
    (_H, Event.TRIP): (_E, _JUDGED),
    (_H, Event.GRAY): (_E, _JUDGED),
    (_H, Event.DOWN): (_E, _DOWN),
    (_H, Event.PROBES_DOUBTED): (_S, _NONE),
    (_H, Event.PROBES_GOOD): (_H, _NONE),
    (_H, Event.TIME_UP): (_H, _NONE),
    (_H, Event.TRIALS_PASSED): (_H, _NONE),
    (_H, Event.RESET): (_H, _CLEAR),
    (_S, Event.SUCCESS): (_H, _CLEAR),
    (_S, Event.FAULT): (_S, _NONE),
    (_S, Event.TRIP): (_E, _JUDGED),
    (_S, Event.GRAY): (_E, _JUDGED),
    (_S, Event.DOWN): (_E, _DOWN),
    (_S, Event.PROBES_DOUBTED): (_S, _NONE),
    # Counted faults stay counted: good probes do not outweigh failed requests.
    (_S, Event.PROBES_GOOD): (_H, _NONE),
    (_S, Event.TIME_UP): (_S, _NONE),
    (_S, Event.TRIALS_PASSED): (_S, _NONE),
    (_S, Event.RESET): (_H, _CLEAR),
    # A success here is a request that was tried because nothing else was left.
    (_E, Event.SUCCESS): (_P, Effect.TRY),
    (_E, Event.FAULT): (_E, _NONE),
    (_E, Event.TRIP): (_E, _NONE),
    (_E, Event.GRAY): (_E, _NONE),
    (_E, Event.DOWN): (_E, Effect.FOUND_DOWN),
    (_E, Event.PROBES_DOUBTED): (_E, _NONE),
    (_E, Event.PROBES_GOOD): (_P, Effect.TRY),
    (_E, Event.TIME_UP): (_P, Effect.TRY),
    (_E, Event.TRIALS_PASSED): (_E, _NONE),
    (_E, Event.RESET): (_P, Effect.TRY),
    (_P, Event.SUCCESS): (_P, _NONE),
    (_P, Event.FAULT): (_E, _JUDGED),
    (_P, Event.TRIP): (_E, _JUDGED),
    (_P, Event.GRAY): (_E, _JUDGED),
    (_P, Event.DOWN): (_E, _DOWN),
    (_P, Event.PROBES_DOUBTED): (_P, _NONE),
    (_P, Event.PROBES_GOOD): (_P, _NONE),
    (_P, Event.TIME_UP): (_H, Effect.WELCOME),
    (_P, Event.TRIALS_PASSED): (_H, Effect.WELCOME),
    (_P, Event.RESET): (_H, _CLEAR),
}

#: events that rest on judgement: the fleet softens them to FAULT when too many are ejected already
JUDGED = frozenset({Event.TRIP, Event.GRAY})


class Health:
    """The counters of one backend and the state they have led to.

    ``fault``, ``probe``, ``timer`` return the event to fire, or None. Attempts that began before the present state did
    (``started_s < since_s``) say nothing about an ejected backend or one in probation: they are old news.
    """

    __slots__ = (
        "_away_since_s",
        "_bad",
        "_bad_before",
        "_consecutive",
        "_faulty_tenant",
        "_faulty_tenants",
        "_good",
        "_good_before",
        "_good_tenant",
        "_good_tenant_s",
        "_params",
        "_probes",
        "_probes_good",
        "_probes_seen",
        "_trials_passed",
        "_unreachable",
        "_window_from_s",
        "away",
        "down",
        "ejections",
        "gray",
        "last_probe_ok",
        "last_probe_s",
        "last_token_s",
        "since_s",
        "state",
        "until_s",
        "welcome_s",
    )

    def __init__(self, params: Params, now_s: float) -> None:
        self._params = params
        self.state = State.HEALTHY
        self.since_s = now_s
        #: end of the ejection or of the probation
        self.until_s = float("inf")
        #: the present ejection is of the certain kind
        self.down = False
        #: a connection or a probe failed, and probes have not been good since
        self.away = False
        self._away_since_s = now_s
        #: the present ejection, or the probation after it, is for being far slower than others
        self.gray = False
        #: ejections that are not forgotten yet
        self.ejections = 0
        #: start of the slow start, -inf when there is none
        self.welcome_s = float("-inf")
        self.last_token_s = float("-inf")
        self.last_probe_s = float("-inf")
        self.last_probe_ok: bool | None = None
        self._trials_passed = 0
        self._consecutive = 0.0
        self._unreachable = 0
        self._good = self._good_before = 0
        self._bad = self._bad_before = 0.0
        self._window_from_s = now_s
        self._faulty_tenant: str | None = None
        self._faulty_tenants = 0
        self._good_tenant: str | None = None
        self._good_tenant_s = float("-inf")
        self._probes = 0  # the last verdicts as bits, 1 is bad
        self._probes_seen = 0
        self._probes_good = 0  # in a row

    def __repr__(self) -> str:
        return f"Health({self.state.value}, consecutive={self._consecutive:g}, ejections={self.ejections})"

    # -- what happened ----------------------------------------------------------------------------------------------

    def success(self, now_s: float, started_s: float, tenant: str) -> Event | None:
        """Tokens came, or a whole answer did."""
        self.last_token_s = now_s
        self._good += 1
        self._good_tenant = tenant
        self._good_tenant_s = now_s
        state = self.state
        if state is _H:
            if self._consecutive:
                self._clear_consecutive()
            return None
        if state is _S:
            return Event.SUCCESS
        if started_s < self.since_s:
            return None
        if state is _E:
            return Event.SUCCESS
        self._trials_passed += 1
        return Event.TRIALS_PASSED if self._trials_passed >= self._params.trials_needed else Event.SUCCESS

    def fault(self, now_s: float, started_s: float, tenant: str, *, weight: float, unreachable: bool) -> Event | None:
        """An attempt failed and the backend is to blame: ``weight`` 1 for a hard fault, less for a soft one."""
        if started_s < self.since_s and self.state in (_E, _P):
            # How it served is old news; that nobody listens is not.
            return Event.DOWN if unreachable and self.state is _E and not self.down else None
        params = self._params
        self._bad += weight
        self._consecutive += weight
        if self._faulty_tenant != tenant:
            self._faulty_tenants += 1
            self._faulty_tenant = tenant
        if unreachable:
            self._unreachable += 1
            self._leave(now_s)
            self._probes_good = 0
            if self._unreachable >= params.unreachable_limit:
                return Event.DOWN
            return Event.FAULT
        self._unreachable = 0
        doubt = params.one_tenant_factor if self._only_one_tenant_suffers(now_s) else 1.0
        if self._consecutive >= params.consecutive_limit * doubt:
            return Event.TRIP
        good, bad = self._good + self._good_before, self._bad + self._bad_before
        if doubt == 1.0 and good + bad >= params.failure_volume and bad >= params.failure_ratio * (good + bad):
            return Event.TRIP
        return Event.FAULT

    def probe(self, ok: bool, now_s: float) -> Event | None:
        """The verdict of one active probe."""
        params = self._params
        self.last_probe_ok = ok
        self.last_probe_s = now_s
        self._probes = (self._probes << 1 | (not ok)) & ((1 << params.probe_window) - 1)
        self._probes_seen += 1
        self._probes_good = self._probes_good + 1 if ok else 0
        if not ok:
            self._leave(now_s)
        if self._probes_good >= params.probe_rise:
            returns = self.away and now_s - self._away_since_s >= params.away_ramp_s
            self.away = False
            if self.state is not _E:
                if returns:  # nobody had asked it meanwhile, so it was never ejected; it begins slowly all the same
                    self.welcome_s = now_s
                return Event.PROBES_GOOD
            hold_s = min(params.down_hold_s * (self.ejections - 1), params.down_hold_max_s)
            return Event.PROBES_GOOD if self.down and now_s >= self.since_s + hold_s else None
        if self.state is _E and not self.down and self._probes & 0b11 == 0b11:
            return Event.DOWN
        if not ok and self._probes.bit_count() >= params.probe_fall:
            return Event.PROBES_DOUBTED if now_s - self.last_token_s <= params.delivering_s else Event.DOWN
        return None

    def timer(self, now_s: float) -> Event | None:
        """The event that is due because time has passed, None if none is. Call it at least every tick."""
        params = self._params
        if now_s - self._window_from_s >= params.failure_window_s / 2:
            self._roll_window(now_s)
        if self.state is _E or self.state is _P:
            if now_s < self.until_s:
                return None
            probes_say_no = self.last_probe_ok is False and now_s - self.last_probe_s <= params.load_fresh_s
            return None if probes_say_no else Event.TIME_UP
        if self.ejections and now_s - self.since_s >= params.ejection_memory_s:
            self.ejections -= 1
            self.since_s = now_s
        return None

    # -- the machine ------------------------------------------------------------------------------------------------

    def fire(self, event: Event, now_s: float) -> bool:
        """Take the step the table says. Returns whether the state, or the kind of the ejection, has changed."""
        before, was_down = self.state, self.down
        self.state, effect = TABLE[before, event]
        if effect is Effect.CLEAR:
            self._clear_consecutive()
        elif effect is not Effect.NONE:
            self._carry_out(effect, now_s)
            if effect in (Effect.EJECT_DOWN, Effect.EJECT_JUDGED):
                self.gray = event is Event.GRAY
        if event is Event.RESET:
            self._forget_faults(now_s)
            self.ejections = 0
        if self.state is before:
            return self.down is not was_down
        if before in (_E, _P) or self.state in (_E, _P):
            self.since_s = now_s
        return True

    def _carry_out(self, effect: Effect, now_s: float) -> None:
        params = self._params
        self._clear_consecutive()
        if effect is Effect.FOUND_DOWN:
            self.down = True
        elif effect is Effect.TRY:
            self._trials_passed = 0
            self.until_s = now_s + params.probation_s
        elif effect is Effect.WELCOME:
            self._forget_faults(now_s)
            self.until_s = float("inf")
            self.welcome_s = now_s
            self.gray = False
        else:
            self.down = effect is Effect.EJECT_DOWN
            self.ejections += 1
            self._probes_good = 0
            self.until_s = now_s + min(params.ejection_base_s * self.ejections, params.ejection_max_s)

    def welcome(self, now_s: float) -> None:
        """A new backend begins with the slow start, like one that is back."""
        self.welcome_s = now_s

    def share(self, now_s: float) -> float:
        """The part of the decisions this backend takes part in: 1, or less during the slow start."""
        age_s = now_s - self.welcome_s
        if age_s >= self._params.slow_start_s:
            return 1.0
        return max(self._params.slow_start_min_ratio, age_s / self._params.slow_start_s)

    # -- counters ---------------------------------------------------------------------------------------------------

    def _only_one_tenant_suffers(self, now_s: float) -> bool:
        """Every fault of the window is one tenant's, while another was just served: its requests may be bad."""
        return (
            self._faulty_tenants == 1
            and self._good_tenant not in (None, self._faulty_tenant)
            and now_s - self._good_tenant_s <= self._params.failure_window_s
        )

    def _leave(self, now_s: float) -> None:
        if not self.away:
            self.away, self._away_since_s = True, now_s

    def _clear_consecutive(self) -> None:
        self._consecutive = 0.0
        self._unreachable = 0

    def _forget_faults(self, now_s: float) -> None:
        self._clear_consecutive()
        self._good = self._good_before = 0
        self._bad = self._bad_before = 0.0
        self._window_from_s = now_s
        self._faulty_tenant = self._good_tenant = None
        self._faulty_tenants = 0

    def _roll_window(self, now_s: float) -> None:
        self._good_before, self._bad_before = self._good, self._bad
        self._good, self._bad = 0, 0.0
        self._window_from_s = now_s
        if not self._bad_before:
            self._faulty_tenant = None
            self._faulty_tenants = 0
