"""Hedges: a second attempt beside one whose first token is late. The first content token wins, the other is aborted.

A request is hedged once, when its first token is later than 19 of 20 are, given what was predicted for it. How late
first tokens come is learned for each backend and model; that of the middle backend holds for all, so that a slow one
does not excuse itself. It is a stochastic approximation of the 95th percentile (Robbins and Monro 1951) of

    ln((ttft_s + slack) / (predicted_ttft_s + slack))

The prediction is taken without what the backend is late at the moment: to wait longer for it would be in vain.

Hedges help against one slow backend and harm where all are slow, so there are none when more than half of a model's
backends are late at the moment, none to a backend that is late itself or where the request would cost others much, and
never more than a share of all attempts: each attempt puts that share of a hedge into a bucket (Finagle's
BackupRequestFilter has the same bound). A request of which a backend died is not hedged: it may be the cause.
"""

from __future__ import annotations

from math import exp, log

from router.core.backend import Backend
from router.core.candidates import who_serves
from router.core.cost import cost_terms
from router.core.course import Course
from router.core.decay import Ewma
from router.core.decisions import Dispatch
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.traits import Continues
from router.core.types import Lease, Rng

_P = 0.95
_INFINITE_S = float("inf")


class Punctuality:
    """How late first tokens of one model come at one backend, measured by what was predicted."""

    __slots__ = ("_late", "_params", "at_s", "late_log", "samples")

    def __init__(self, params: Params) -> None:
        self._params = params
        #: the logarithm of the factor that 19 of 20 stay below
        self.late_log = log(params.hedge_start_factor)
        self.samples = 0
        #: how many of the latest ones were late, the more recent the more weight; and when the last one came
        self._late = Ewma(params.hedge_late_weight, 0.0)
        self.at_s = float("-inf")

    def add(self, factor: float, *, late: bool, now_s: float) -> None:
        """One took ``factor`` times what was predicted, or more."""
        params = self._params
        step = params.hedge_step * (_P if log(factor) > self.late_log else _P - 1.0)
        self.late_log = min(max(self.late_log + step, log(params.hedge_least_factor)), log(params.hedge_most_factor))
        self.samples += 1
        self._late.add(float(late))
        self.at_s = now_s

    def late(self, now_s: float) -> bool:
        """Whether first tokens come late at the moment."""
        recent = now_s - self.at_s <= self._params.hedge_memory_s
        return recent and (self._late.value or 0.0) > 0.5


class Hedging:
    """Decides when a request is hedged and where. ``share``: of all attempts, at most. ``floor_s``: no hedge sooner."""

    def __init__(self, fleet: Fleet, *, share: float, floor_s: float) -> None:
        self._fleet = fleet
        self._params = fleet.params
        self._share = share
        self._floor_s = floor_s
        self._saved = 0.0
        self._known: dict[tuple[str, str], Punctuality] = {}
        self.hedges_total = 0

    @property
    def saved(self) -> float:
        """Hedges that the budget allows now."""
        return self._saved

    def sent(self, lease: Lease) -> float:
        """An attempt begins, other than a hedge. Returns when it is to be hedged, if nothing has come by then."""
        self._saved = min(self._saved + self._share, self._params.hedge_saved_max)
        return self.due_s(lease)

    def due_s(self, lease: Lease) -> float:
        """When the first token of ``lease`` is late. Never, if its request is not to be hedged at all."""
        request, predicted_s = lease.request, _expected_s(lease)
        if (
            predicted_s is None
            or lease.retry
            or lease.probation
            or not request.stream
            or request.light
            or request.pin_backend is not None
            or request.continues is not Continues.NO
        ):
            return _INFINITE_S
        slack_s = self._params.hedge_slack_s
        late_s = (predicted_s + slack_s) * exp(self._late_log(request.model)) - slack_s
        return lease.started_s + max(late_s, self._floor_s)

    def came(self, lease: Lease, now_s: float) -> None:
        """The first token of ``lease`` is here."""
        self._learn(lease, now_s, late=now_s > self.due_s(lease))

    def lost(self, lease: Lease, now_s: float) -> None:
        """``lease`` ended without a first token. It teaches something only if that was late."""
        if now_s > self.due_s(lease):
            self._learn(lease, now_s, late=True)

    def second(self, course: Course, lease: Lease, now_s: float, rng: Rng) -> Dispatch | None:
        """Hedge the request of ``lease``, which is due: the second attempt, counted in the fleet. None: not now."""
        if self._saved < 1.0 or lease.first_token_s is not None or self._all_slow(lease.request.model, now_s):
            return None
        wanted = course.beside(lease.backend, now_s, rng, dry_run=True)
        if wanted is None or not self._is_worth_it(wanted.lease, now_s - lease.started_s, now_s):
            return None
        self._saved -= 1.0
        self.hedges_total += 1
        return course.beside(lease.backend, now_s, rng, only=wanted.lease.backend)

    # -- where ----------------------------------------------------------------------------------------------------

    def _is_worth_it(self, there: Lease, waited_s: float, now_s: float) -> bool:
        """Whether the second attempt would probably have answered by now, and harms nobody."""
        backend, predicted_s = self._fleet.backends[there.backend], there.predicted_ttft_s
        if predicted_s is None or there.ahead is None or predicted_s > max(waited_s, self._floor_s):
            return False
        if there.probation or self._is_late(backend, there.request.model, now_s):
            return False
        terms = dict(cost_terms(there.ahead, there.prompt_tokens, there.uncached_tokens))
        return terms["queue"] + terms["toll"] <= self._params.hedge_toll_s

    def _all_slow(self, model: str, now_s: float) -> bool:
        """Whether more than half of the backends are late."""
        serving = [b for b in who_serves(self._fleet.backends.values(), model) if b.usable(now_s)]
        late = sum(self._is_late(b, model, now_s) for b in serving)
        return 2 * late > len(serving)

    def _is_late(self, b: Backend, model: str, now_s: float) -> bool:
        """Whether its latest first tokens were late, or the next one is."""
        known = self._known.get((model, b.name))
        if known is not None and known.late(now_s):
            return True
        oldest = next((lease for lease in b.prompts.pending if lease.request.model == model), None)
        return oldest is not None and now_s > self.due_s(oldest) and b.health.last_token_s < oldest.started_s

    # -- learning -------------------------------------------------------------------------------------------------

    def _learn(self, lease: Lease, now_s: float, *, late: bool) -> None:
        predicted_s = _expected_s(lease)
        if predicted_s is None or lease.request.light or not lease.request.stream:
            return
        key = (lease.request.model, lease.backend)
        if (known := self._known.get(key)) is None:
            self._forget_strangers()
            known = self._known[key] = Punctuality(self._params)
        slack_s = self._params.hedge_slack_s
        factor = (now_s - lease.started_s + slack_s) / (max(0.0, predicted_s) + slack_s)
        known.add(factor, late=late, now_s=now_s)

    def _forget_strangers(self) -> None:
        """Backends that are not configured any more."""
        backends = self._fleet.backends
        self._known = {key: known for key, known in self._known.items() if key[1] in backends}

    def _late_log(self, model: str) -> float:
        """The lower median over the backends that are known well."""
        params = self._params
        logs = sorted(
            known.late_log
            for (of, _), known in self._known.items()
            if of == model and known.samples >= params.hedge_samples
        )
        return logs[(len(logs) - 1) // 2] if logs else log(params.hedge_start_factor)


def _expected_s(lease: Lease) -> float | None:
    """The predicted time to its first token, as if its backend were not late at the moment."""
    if lease.predicted_ttft_s is None or lease.ahead is None:
        return lease.predicted_ttft_s
    return max(0.0, lease.predicted_ttft_s - max(0.0, lease.ahead.rates.residual_s))
