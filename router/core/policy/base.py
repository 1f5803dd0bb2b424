"""A policy ranks the candidates that passed the filters, and says why."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from router.core.backend import Backend
from router.core.cost import Terms
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.types import Lease, Request, Rng, Value


class Ranking(Value):
    """A choice among candidates. ``costs[i]`` belongs to candidate ``i``; lower is better.

    The terms of a cost are rendered on demand: ``render(detail, i)`` must need nothing but what ``detail`` held at the
    decision.
    """

    chosen: int
    costs: Sequence[float]
    reason: str
    detail: Any
    render: Callable[[Any, int], Terms]
    #: tokens of the prompt that the chosen one has cached; negative: the policy has not looked
    cached_tokens: float = -1.0


class Policy(ABC):
    """Ranks candidates. ``rank`` alters nothing: a dry run asks it too.

    A policy with a memory of its own sets ``observes``: it is then told of each choice and what became of it.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: the publication or project the algorithm is from
    source: ClassVar[str]
    observes: ClassVar[bool] = False
    #: True: requests that would queue for long everywhere are held back in the router, see ``Fleet``
    binds_late: ClassVar[bool] = False
    #: False: the original knows only what it sent itself, so that comparisons tell it no prefixes of other routers
    hears_prefixes: ClassVar[bool] = True

    def __init__(self, params: Params) -> None:
        self.params = params

    @abstractmethod
    def rank(self, request: Request, candidates: Sequence[Backend], now_s: float, rng: Rng) -> Ranking:
        """Choose one of ``candidates`` (never empty, all able to take the request)."""

    def dispatched(self, lease: Lease, now_s: float) -> None:  # noqa: B027
        """A choice became a lease."""

    def first_token(self, lease: Lease, now_s: float) -> None:  # noqa: B027
        """Its first token came."""

    def ended(self, lease: Lease, outcome: Outcome, now_s: float) -> None:  # noqa: B027
        """It ended."""


def lowest(costs: Sequence[float], rng: Rng) -> int:
    """The index of the lowest cost; chance decides between equals."""
    best = min(costs)
    ties = [i for i, cost in enumerate(costs) if cost == best]
    return ties[0] if len(ties) == 1 else ties[int(rng.random() * len(ties))]


def draw_two(count: int, rng: Rng) -> tuple[int, ...]:
    """Two distinct indices below ``count`` by chance, or the only one."""
    first = int(rng.random() * count)
    if count == 1:
        return (first,)
    return first, (first + 1 + int(rng.random() * (count - 1))) % count
