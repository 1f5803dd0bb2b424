"""How long backends may be silent: one sweep over the relays that are waiting, instead of a timer for each.

A sweep that comes late judges nobody: this process was held up, and what backends said meanwhile lies unread. The next
one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from router import clock

_NEVER_S = float("inf")
#: A sweep that comes so long after the one before, of which there are twenty a second, is late.
LATE_S = 0.5


class Patient(Protocol):
    """Whoever waits for a backend: a relay."""

    is_set: bool

    @property
    def due_s(self) -> float:
        """When its patience is over."""

    def expire(self) -> None:
        """Its patience is over."""


class Deadlines:
    """``coarse_now_s`` is the time of the last sweep: good enough for progress, and free."""

    __slots__ = ("_next_due_s", "_was_late", "coarse_now_s")

    def __init__(self) -> None:
        self._next_due_s = _NEVER_S  # no relay's patience is over before
        self._was_late = False
        self.coarse_now_s = clock.monotonic_s()

    def note(self, due_s: float) -> None:
        """Some relay's patience is over then."""
        if due_s < self._next_due_s:
            self._next_due_s = due_s

    def sweep(self, now_s: float, patients: Callable[[], Iterable[Patient | None]]) -> None:
        """End the waits that are over, and find out when the next one will be. ``patients`` is only asked when one may
        be over, and must bear that they end meanwhile."""
        late = now_s - self.coarse_now_s > LATE_S and not self._was_late
        self.coarse_now_s, self._was_late = now_s, late
        if late or now_s < self._next_due_s:
            return
        self._next_due_s = _NEVER_S
        for patient in patients():
            if patient is None or patient.is_set:
                continue
            due_s = patient.due_s
            if due_s <= now_s:
                patient.expire()
            else:
                self.note(due_s)
