"""Linkerd's balancer: the better of two by peak-sensitive latency times what is outstanding."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy.base import Policy, Ranking, draw_two, lowest
from router.core.types import Lease, Request, Rng

DEFAULT_RTT_S = 0.03
DECAY_S = 10.0
#: a failed response counts as this slow, so that fast failures do not attract traffic (PenaltyPeakEwma)
PENALTY_S = 5.0


class PeakEwma(Policy):
    """cost = rtt * (pending + 1), where rtt rises to a peak at once and forgets it slowly, also while nothing comes.

    ``rtt`` and ``pending`` end at the first data of the response, as in Linkerd's outbound proxy.
    """

    name = "peak_ewma"
    summary = "Draw two, take the lower of first-token latency (peaks count at once) times pending requests."
    source = "Linkerd: linkerd2-proxy outbound (tower peak_ewma, default 30 ms, decay 10 s) with PenaltyPeakEwma"
    observes = True

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._rtt: dict[str, tuple[float, float]] = {}  # backend -> (estimate, when)
        self._born_s = inf  # of the estimates of backends that were never used

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        costs = [inf] * len(candidates)
        parts: dict[int, tuple[float, int]] = {}
        for i in draw_two(len(candidates), rng):
            b = candidates[i]
            pending = len(b.prompts)
            rtt_s = self._estimate_s(b.name, now_s)
            parts[i] = (rtt_s, pending)
            costs[i] = rtt_s * (pending + 1)
        return Ranking(lowest(costs, rng), costs, "lower of two", parts, _terms)

    def _estimate_s(self, backend: str, now_s: float) -> float:
        estimate_s, at_s = self._rtt.get(backend, (DEFAULT_RTT_S, min(self._born_s, now_s)))
        return estimate_s * exp((at_s - now_s) / DECAY_S)

    def _add(self, backend: str, sample_s: float, now_s: float) -> None:
        estimate_s, at_s = self._rtt.get(backend, (DEFAULT_RTT_S, self._born_s))
        keep = exp((at_s - now_s) / DECAY_S)
        estimate_s = sample_s if sample_s > estimate_s else estimate_s * keep + sample_s * (1.0 - keep)
        self._rtt[backend] = (estimate_s, now_s)

    def dispatched(self, lease: Lease, now_s: float) -> None:
        self._born_s = min(self._born_s, now_s)

    def first_token(self, lease: Lease, now_s: float) -> None:
        self._add(lease.backend, now_s - lease.started_s, now_s)

    def ended(self, lease: Lease, outcome: Outcome, now_s: float) -> None:
        if outcome in (Outcome.OVERLOADED, Outcome.SERVER_ERROR, Outcome.UNREACHABLE, Outcome.FIRST_TOKEN_TIMEOUT):
            self._add(lease.backend, max(PENALTY_S, now_s - lease.started_s), now_s)


def _terms(detail: dict[int, tuple[float, int]], i: int) -> Terms:
    if i not in detail:
        return ()
    rtt_s, pending = detail[i]
    return (("first token", rtt_s), ("pending requests", float(pending)))
