"""Writes the history: asks the fleet what has changed, watches the store, and shares events with the other routers.

Events travel through a capped stream of the store, so that a router which starts later knows what happened before.
While the store is away they wait here.
"""

from __future__ import annotations

import logging
from asyncio import Task, sleep
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from router import clock
from router.complaint import Complaint
from router.control import vanished
from router.control.overload import Overload
from router.control.vanished import OtherRouter, Vanished
from router.core.backend import Backend
from router.core.bulletin import Change
from router.core.degrading import Swing
from router.core.fleet import Fleet
from router.core.health import Event, State
from router.store.base import Store
from router.store.courier import LinkError
from router.tasks import stop, supervise
from router.telemetry.history import EVENTS_MAX, History, decode, encode
from router.telemetry.sink import Telemetry

_log = logging.getLogger("router.control")

STREAM = "{mr}:events"
#: Events that a router reads when it starts.
_PAST = 2000
_LOOK_S = 0.25
_SYNC_S = 1.0
_BATCH = 100
#: A backend that wavers between healthy and suspect, as one does that fails now and then, is worth an event this often.
_WAVERING_S = 60.0
_WAVERS = frozenset({State.HEALTHY, State.SUSPECT})

#: Once late is a pause; as often as this within ten seconds the event loop has too much to do.
_LATE_TIMES = 3

#: event -> why the state has changed
WHY: dict[Event, str] = {
    Event.SUCCESS: "a request succeeded",
    Event.FAULT: "a request failed",
    Event.TRIP: "too many requests failed",
    Event.GRAY: "it is far slower than the other backends of its model",
    Event.DOWN: "nobody answers",
    Event.PROBES_DOUBTED: "its probes fail, though tokens come",
    Event.PROBES_GOOD: "it answers its probes",
    Event.TIME_UP: "the time of the ejection is over",
    Event.TRIALS_PASSED: "its trials succeeded",
    Event.RESET: "it was reset",
}
#: An ejected backend that turned out to be down: its state is the same, and the event needs a word of its own.
DOWN = "down"
_FOR_REQUESTS = frozenset({Event.FAULT, Event.TRIP})


class Story(NamedTuple):
    """How a backend came to be as it is. ``since_s`` is of the wall clock."""

    since_s: float
    why: str
    who: str | None = None


class Chronicle:
    """``last_error`` is what the last probe or scrape of a backend met."""

    def __init__(
        self,
        history: History,
        fleet: Fleet,
        store: Store,
        *,
        last_error: Callable[[str], str | None],
        now_s: Callable[[], float],
    ) -> None:
        self.history = history
        #: changes of a backend's state, by region, backend and the state it came to
        self.transitions: Counter[tuple[str, str, str]] = Counter()
        self.left_alone = False  # this is a worker, and the process in front of it has died
        self._fleet = fleet
        self._store = store
        self._last_error = last_error
        #: the models that have become strained since the last call, or are not any more
        self.swings: Callable[[float], Sequence[Swing]] = lambda _: ()
        self._now_s = now_s
        self._began_s = clock.wall_s()
        self._stories: dict[str, tuple[State, Story]] = {}
        self._quiet_until_s: dict[str, float] = {}
        self._withheld: set[str] = set()  # drained, leaving or burning in at the last look
        self._store_state = "up"
        self._mark = "0-0"
        self._caught_up = False
        self._complaint = Complaint()
        self._task: Task[None] | None = None
        self._watchers: list[Callable[[], None]] = []

    def watch(self, others: Callable[[], Iterable[OtherRouter]], telemetry: Telemetry, *, speaks: bool) -> None:
        """Note it when one of the other routers vanishes, and when this one is overloaded. ``speaks``: of the workers
        of a router one notes what befalls others."""
        me, now_s = self.history.router.partition("#")[0], self._now_s
        up = partial(_is_up, self._store)
        missing = Vanished(self.history, me, others, store_is_up=up, now_s=now_s, speaks=speaks)
        late_s, shed = partial(telemetry.loop_lag_s, _LATE_TIMES), lambda: telemetry.stats.shed
        overload = Overload(self.history, late_s=late_s, shed=shed, now_s=now_s)
        self._watchers = [missing.look, overload.look]

    async def start(self, version: str) -> None:
        """Take over what happened before."""
        self.history.note("router", self.history.router, after="started", why=f"version {version}")
        await self.sync()
        self._task = supervise(self._loop, name="history")

    async def stop(self) -> None:
        await stop(self._task)
        self.look()
        after, why = vanished.STOPPED, None
        if self.left_alone:
            after, why = vanished.LEFT_ALONE, "the process in front of it has died"
        self.history.note(vanished.KIND, self.history.router, before="serving", after=after, why=why)
        await self.sync()

    # what happens here

    def look(self) -> None:
        """Note what has changed since the last look. Whoever shows states or events calls it before."""
        for change in self._fleet.bulletin.take_changes():
            self._changed(change)
        for swing in self.swings(self._now_s()):
            self._swung(swing)
        if gone := self._stories.keys() - self._fleet.backends.keys():
            self._forget(gone)
        for b in self._fleet.backends.values():
            known = self._stories.get(b.name)
            if known is not None and known[0] is not b.state:
                self._stories[b.name] = b.state, Story(clock.wall_s(), "another engine stands behind the name")
            if b.withdrawn or b.burning_in_since_s is not None:
                self._withheld.add(b.name)
            elif b.name in self._withheld:
                self._withheld.discard(b.name)
                self._stories[b.name] = b.state, Story(clock.wall_s(), "it gets requests again")
        self._look_at_store()

    def _forget(self, gone: Collection[str]) -> None:
        for name in gone:
            del self._stories[name]
            self._quiet_until_s.pop(name, None)
            self._withheld.discard(name)
        for labels in [labels for labels in self.transitions if labels[1] in gone]:
            del self.transitions[labels]

    def _changed(self, change: Change) -> None:
        at_s = clock.wall_s() - (self._now_s() - change.at_s)
        why = self._why(change)
        before, after = change.before.value, change.after.value
        word = DOWN if change.before is change.after else after
        if change.backend not in self._fleet.backends:
            return  # taken out of the file; what is in flight there still ends
        self._stories[change.backend] = change.after, Story(at_s, why)
        self.transitions[change.region, change.backend, after] += 1
        if {change.before, change.after} <= _WAVERS:
            if change.at_s < self._quiet_until_s.get(change.backend, float("-inf")):
                return
            self._quiet_until_s[change.backend] = change.at_s + _WAVERING_S
        level = logging.WARNING if change.after is State.EJECTED else logging.INFO
        _log.log(level, "backend %s is %s now, it was %s: %s", change.backend, word, before, why)
        self.history.note("health", change.backend, before=before, after=word, why=why, at_s=at_s)

    def _swung(self, swing: Swing) -> None:
        before, after = ("calm", "strained") if swing.strained else ("strained", "calm")
        where = swing.places.words
        why = f"{where}: {swing.why}" if where else swing.why
        _log.info("model %s is %s: %s", swing.places.model, after, why)
        self.history.note("strain", swing.places.model, before=before, after=after, why=why)

    def _why(self, change: Change) -> str:
        why = WHY[change.event]
        if change.event is Event.TIME_UP and change.before is State.PROBATION:
            why = "it did well in its probation"
        if change.event in _FOR_REQUESTS:
            error = change.error
        elif change.event is Event.DOWN:
            error = self._last_error(change.backend) or change.error
        else:
            error = None
        return f"{why}: {error}" if error else why

    def _look_at_store(self) -> None:
        state = self._store.state
        if state != self._store_state:
            why = self._store.trouble if state == "down" else None
            self.history.note("store", "store", before=self._store_state, after=state, why=why)
            self._store_state = state

    def story(self, b: Backend) -> Story:
        """Since when, and why, its health is as it is."""
        known = self._stories.get(b.name)
        if known is not None:
            return known[1]
        born_s = clock.wall_s() - (self._now_s() - b.born_s)
        return Story(max(born_s, self._began_s), "" if b.state is State.HEALTHY else b.state.value)

    # what happens elsewhere

    async def sync(self) -> None:
        """Tell the others, and hear what they tell."""
        streams = self._store.streams
        if streams is None:
            self.history.untold.clear()
            return
        try:
            if not self._caught_up:
                self._read(await streams.latest(STREAM, _PAST))
                self._caught_up = True
            while untold := [self.history.untold[i] for i in range(min(_BATCH, len(self.history.untold)))]:
                await streams.append(STREAM, [encode(o) for o in untold], keep=EVENTS_MAX)
                for _ in untold:
                    self.history.untold.popleft()
            while heard := await streams.after(STREAM, self._mark):
                self._read(heard)
        except LinkError as error:
            self._complain(str(error))
        else:
            if self._complaint.settled():
                _log.info("events are shared with the other routers again")

    def _read(self, heard: list[tuple[str, bytes]]) -> None:
        if heard:
            self._mark = heard[-1][0]
            self.history.take([o for _, raw in heard if (o := decode(raw)) is not None])

    def _complain(self, why: str) -> None:
        if self._store.state == "up" and self._complaint.worth_a_line(why, clock.monotonic_s()):
            _log.warning("events cannot be shared with the other routers (%s)", why)

    async def _loop(self) -> None:
        due_s = self._now_s() + _SYNC_S
        while True:
            await sleep(_LOOK_S)
            self.look()
            if self._now_s() >= due_s:
                due_s = self._now_s() + _SYNC_S
                await self.sync()
                for look in self._watchers:
                    look()


def _is_up(store: Store) -> bool:
    return store.state == "up"
