"""The longest cached beginning, unless everybody goes there."""

from __future__ import annotations

from collections.abc import Sequence

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.policy.base import Policy, Ranking, lowest
from router.core.types import Request, Rng


class Prefix(Policy):
    """The backend that knows most of the prompt among those below ``bounded_load`` times the mean load.

    On a miss, and between equal matches, the fewest requests in flight decide: never the smallest cache, which is
    empty because its backend is slow.
    """

    name = "prefix"
    summary = "Longest cached prefix among backends below 1.25 times the mean load, else fewest in flight."
    source = "consistent hashing with bounded loads (Mirrokni 2018), as in KubeAI's PrefixHash"

    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        blocks = request.prefix_blocks
        loads = [b.inflight + b.others_inflight for b in candidates]
        bound = self.params.bounded_load * (sum(loads) + 1.0) / len(loads)
        matches = [
            b.prefix.match(blocks) if load + 1.0 <= max(bound, 1.0) else 0
            for b, load in zip(candidates, loads, strict=True)
        ]
        unit = len(blocks) + 1
        busiest = max(loads) + 1.0
        costs = [unit - match + load / busiest for match, load in zip(matches, loads, strict=True)]
        reason = "longest prefix" if max(matches) else "no prefix known, fewest in flight"
        return Ranking(lowest(costs, rng), costs, reason, (matches, loads), _terms)


def _terms(detail: tuple[list[int], list[float]], i: int) -> Terms:
    matches, loads = detail
    return (("matched blocks", float(matches[i])), ("requests", loads[i]))
