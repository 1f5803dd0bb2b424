"""The bulletin of a fleet's backends, so that a decision need not ask each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.core.backend import Backend


@dataclass(frozen=True, slots=True)
class FleetChange:
    """What ``Fleet.apply`` did, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()


class Bulletin:
    """Backends write here, the fleet reads."""

    __slots__ = ("full", "generation", "next_return_s", "silenced")

    def __init__(self) -> None:
        #: changes so far of what the filters look at
        self.generation = 0
        #: backends that have as many requests in flight as their limit allows
        self.full: set[Backend] = set()
        #: the next time at which a backend may be used more than now without any event
        self.next_return_s = float("inf")
        #: names of backends that were ejected because they do not answer: what is in flight there may never end
        self.silenced: list[str] = []

    def changed(self) -> None:
        """The filters must look again."""
        self.generation += 1

    def returns(self, at_s: float) -> None:
        """A backend may be used more from ``at_s`` on. The filters must look again, now and then."""
        self.generation += 1
        self.next_return_s = min(self.next_return_s, at_s)

    def note(self, b: Backend) -> None:
        """List ``b`` among the full ones if it is full, else take it off the list."""
        if b.inflight >= b.capacity.limit:
            self.full.add(b)
        else:
            self.full.discard(b)

    def take_silenced(self) -> list[str]:
        """The names since the last call."""
        silenced, self.silenced = self.silenced, []
        return silenced
