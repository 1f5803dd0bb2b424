"""Routers that vanish without having said that they stop: one of those that are left notes it in the history, at the
moment it was last heard, and when one is heard again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from router import clock
from router.telemetry.history import History, Occurrence

KIND = "router"
GONE, BACK, STOPPED = "gone", "back", "stopped"
#: What a worker says that ends because the process in front of it has died; nobody told it to.
LEFT_ALONE = "left alone"
#: For how long one that is gone is shown as trouble.
SHOWN_S = 3600.0
#: A router that is silent for this long has vanished. Its own word that it stops has arrived long before.
SILENCE_S = 6.0
#: A look that comes this late heard nobody meanwhile: the fault is here.
_LATE_S = 3.0
#: After this long without a note in the history, a missing router is given up.
_PENDING_S = 60.0
#: The last word of a router that is not missed.
_EXPECTED = frozenset({STOPPED, GONE})


class OtherRouter(Protocol):
    """Another router, as the exchange knows it."""

    @property
    def name(self) -> str: ...
    @property
    def age_s(self) -> float: ...


class Vanished:
    """``me`` is this router's name, ``others`` those that were heard lately. ``speaks``: of several workers one does.

    The first of those that are left, by name, notes it for all.
    """

    def __init__(
        self,
        history: History,
        me: str,
        others: Callable[[], Iterable[OtherRouter]],
        *,
        store_is_up: Callable[[], bool],
        now_s: Callable[[], float],
        speaks: bool = True,
    ) -> None:
        self._history = history
        self._me = me
        self._others = others
        self._store_is_up = store_is_up
        self._now_s = now_s
        self._speaks = speaks
        self._heard_s: dict[str, float] = {}
        self._missing_s: dict[str, float] = {}  # when they were heard last
        self._look_s = now_s()

    def look(self) -> None:
        """To be called about once a second, after the history has heard what the others told."""
        now_s = self._now_s()
        late, self._look_s = now_s - self._look_s > _LATE_S, now_s
        for other in self._others():
            if other.name != self._me:
                heard_s = now_s - other.age_s
                self._heard_s[other.name] = max(heard_s, self._heard_s.get(other.name, heard_s))
        if late or not self._store_is_up():  # nobody could be heard
            self._heard_s = dict.fromkeys(self._heard_s, now_s)
            return
        for name in [name for name, heard_s in self._heard_s.items() if now_s - heard_s > SILENCE_S]:
            self._missing_s[name] = self._heard_s.pop(name)
        first = self._speaks and self._me == min([self._me, *self._heard_s])
        for name, since_s in list(self._missing_s.items()):
            if self._last_word(name) in _EXPECTED or name in self._heard_s or now_s - since_s > _PENDING_S:
                del self._missing_s[name]
            elif first:
                why = "nobody has heard it since, and it did not say that it stops"
                at_s = clock.wall_s() - (now_s - since_s)
                self._history.note(KIND, name, before="serving", after=GONE, why=why, at_s=at_s)
        if first:
            for name in self._heard_s:
                if self._last_word(name) == GONE:
                    self._history.note(KIND, name, before=GONE, after=BACK, why="it is heard again")

    def _last_word(self, name: str) -> str | None:
        """Of a router with several workers that of the worker that spoke last."""
        words = (o for o in self._history.newest_first() if o.kind == KIND and router_of(o) == name)
        return next((o.after for o in words), None)


def router_of(occurrence: Occurrence) -> str:
    """Whom an event of KIND is about: workers speak as ``edge-1#0``."""
    return occurrence.subject.partition("#")[0]


def gone(history: History, there: Iterable[str]) -> list[Occurrence]:
    """Of each router that is gone since SHOWN_S at most the event that says so, the latest first. ``there``: names of
    those that are heard."""
    oldest_s, decided = clock.wall_s() - SHOWN_S, {*there, history.router.partition("#")[0]}
    found = []
    for occurrence in history.newest_first():
        if occurrence.at_s < oldest_s:
            break
        if occurrence.kind == KIND and (name := router_of(occurrence)) not in decided:
            decided.add(name)
            found += [occurrence] if occurrence.after == GONE else []
    return found
