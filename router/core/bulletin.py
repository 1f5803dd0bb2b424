"""The bulletin of a fleet's backends, so that a decision need not ask each of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from router.core.health import Event, State

if TYPE_CHECKING:
    from router.core.backend import Backend

#: Changes that nobody has asked for yet. Beyond that the oldest are forgotten.
CHANGES_MAX = 4096


class Change(NamedTuple):
    """A backend's state has changed, or an ejected one turned out to be down, while ``after`` is ``before``."""

    backend: str
    region: str
    at_s: float
    before: State
    after: State
    event: Event
    error: str | None  # how the latest attempt that failed there ended


@dataclass(frozen=True, slots=True)
class FleetChange:
    """What ``Fleet.apply`` did, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()


class Bulletin:
    """Backends write here, the fleet reads."""

    __slots__ = ("_changes", "full", "generation", "next_return_s", "silenced")

    def __init__(self) -> None:
        #: changes so far of what the filters look at
        self.generation = 0
        #: backends that have as many requests in flight as their limit allows
        self.full: set[Backend] = set()
        #: the next time at which a backend may be used more than now without any event
        self.next_return_s = float("inf")
        #: names of backends that were ejected because they do not answer: what is in flight there may never end
        self.silenced: list[str] = []
        self._changes: deque[Change] = deque(maxlen=CHANGES_MAX)

    def changed(self) -> None:
        """The filters must look again."""
        self.generation += 1

    def returns(self, at_s: float) -> None:
        """A backend may be used more from ``at_s`` on. The filters must look again, now and then."""
        self.generation += 1
        self.next_return_s = min(self.next_return_s, at_s)

    def moved(self, b: Backend, before: State, event: Event, now_s: float, *, silent: bool) -> None:
        """``event`` has changed the state of ``b``. ``silent``: the event is that no answer came in time."""
        health = b.health
        self._changes.append(Change(b.name, b.region, now_s, before, health.state, event, b.reputation.last_error))
        if health.state is State.EJECTED and (health.down or silent):
            self.silenced.append(b.name)

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

    def take_changes(self) -> list[Change]:
        """The changes of states since the last call, oldest first."""
        changes = list(self._changes)
        self._changes.clear()
        return changes
