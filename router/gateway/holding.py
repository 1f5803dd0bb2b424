"""Requests for a model of which nothing runs: held until a backend was woken or started, within bounds.

Each model has a queue of its own, in the order of ``core/admission``, bounded in requests, bytes and time by
``[models.X.wake]``. Whoever finds it full is told how long a start takes from now, as far as is known. A stream that is
held for long gets its head and signs of life (``pings``), so that neither its client nor a proxy gives up: what is said
of the backend in the head of other answers is then missing, and an error comes in band.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from router import clock
from router.config import WakeSection
from router.core.admission import WaitQueue
from router.core.course import Course
from router.core.decisions import Wait
from router.core.dormancy import Hindrance
from router.core.fleet import Fleet
from router.core.types import Request, Rng
from router.errors import RouterError
from router.gateway import responses
from router.gateway.exchange import Exchange
from router.gateway.settings import InForce
from router.gateway.waiting import Place

#: A stream that is held for as long is begun without an answer, in seconds.
OPEN_S = 10.0
_LOOK_S = 0.5
_NO_WAKE = WakeSection()


class Held(Place):
    """One request that is held."""

    __slots__ = ("since_s", "x")

    def __init__(self, x: Exchange, course: Course, since_s: float) -> None:
        super().__init__(course)
        self.x = x
        self.since_s = since_s


class _Room:
    """Those of one model."""

    __slots__ = ("body_bytes", "held", "queue", "welcomed")

    def __init__(self, queue: WaitQueue[Held]) -> None:
        self.queue = queue
        self.held: dict[Held, None] = {}  # the oldest first
        self.body_bytes = 0
        #: a backend has come, and begins with a few of them
        self.welcomed = False


class Holding:
    """``wake`` asks that a backend of a model is woken, as often as it likes. ``wait_s`` says how long that takes from
    now on, and ``trouble`` why it cannot be done."""

    def __init__(
        self, force: InForce, fleet: Fleet, date: responses.DateHeader, rng: Rng, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._force = force
        self._fleet = fleet
        self._date = date
        self._rng = rng
        self._loop = loop
        self._rooms: dict[str, _Room] = {}
        self._look_s = float("-inf")
        self.wake: Callable[[str], object] = str
        self.wait_s: Callable[[str], float] = lambda model: 1.0
        self.trouble: Callable[[str], Hindrance | None] = lambda model: None

    def __len__(self) -> int:
        return sum(len(room.held) for room in self._rooms.values())

    @property
    def by_model(self) -> dict[str, int]:
        return {model: len(room.held) for model, room in self._rooms.items()}

    def requests(self, model: str) -> list[Request]:
        """Those that are held, the oldest first."""
        room = self._rooms.get(model)
        return [] if room is None else [place.course.request for place in room.held]

    async def hold(self, x: Exchange, course: Course, decision: Wait) -> None:
        """Hold a request until it may be decided again, and note the time in its record. Raises RouterError
        (admission_full, wait_expired; no_backend when it cannot be woken)."""
        model, began_s = course.request.model, clock.monotonic_s()
        wake, size = self._bounds(model), len(x.request.body)
        room = self._rooms.get(model)
        if room is None:
            bounds = replace(self._fleet.params, queue_max=wake.held, wait_max_s=wake.wait_s)
            room = self._rooms[model] = _Room(WaitQueue(bounds))
        if self._cannot_wake(model, began_s):
            raise self._error("no_backend", x)
        place = Held(x, course, began_s)
        fits = room.body_bytes + size <= wake.held_bytes
        if not fits or not room.queue.push(course.request, began_s, place, kind=course.kind, until_s=decision.until_s):
            raise self._error("admission_full", x, "As many requests as may wait for it do so already.")
        room.held[place] = None
        room.body_bytes += size
        self.wake(model)
        try:
            free = await place
        finally:
            held_s = clock.monotonic_s() - began_s
            x.record.wait_s += held_s
            x.record.held_s += held_s
            room.queue.remove(place)
            del room.held[place]
            room.body_bytes -= size
            if not room.held:
                self._rooms.pop(model, None)
        if not free:
            if self._cannot_wake(model, clock.monotonic_s()):
                raise self._error("no_backend", x)
            raise self._error("wait_expired", x, "None was there in time.")

    def _bounds(self, model: str) -> WakeSection:
        alias = self._force.settings.aliases.get(model)
        return _NO_WAKE if alias is None else alias.wake

    def _cannot_wake(self, model: str, now_s: float) -> bool:
        """Too many calls have failed: nobody is held until the next one."""
        trouble = self.trouble(model)
        return trouble is not None and trouble.refuses(now_s)

    def _error(self, code: str, x: Exchange, detail: str = "") -> RouterError:
        """The true reason, for the client and for its record."""
        model = x.record.served_model or ""
        trouble = self.trouble(model)
        being = "one is being started" if trouble is None else f"none could be started: {trouble.told}"
        text = f"No backend of the model `{model}` runs, and {being.rstrip('.')}. {detail}".rstrip()
        x.record.refusal = text
        return RouterError(code, text, retry_after_s=max(1.0, self.wait_s(model)), should_retry=True)

    def sweep(self, now_s: float) -> None:
        """Many times a second: let those go on for whom there is a backend, and keep the others company."""
        if not self._rooms:
            return
        for model, room in list(self._rooms.items()):
            for place in room.queue.expire(now_s):
                place.set(False)
            if self._cannot_wake(model, now_s):
                for place in list(room.held):
                    place.set(False)
            self._offer(model, room, now_s)
        if now_s >= self._look_s:
            self._look_s = now_s + _LOOK_S
            self._keep_company(now_s)

    def _offer(self, model: str, room: _Room, now_s: float) -> None:
        for _ in range(len(room.queue)):
            free = room.queue.pop(now_s, lambda place: self._fits(model, room, place, now_s))
            if free is None:
                return
            free.set(True)  # the request decides, and takes its place, before this returns

    def _fits(self, model: str, room: _Room, place: Held, now_s: float) -> bool:
        if not place.course.fits(now_s, self._rng):
            return False
        if not room.welcomed:
            room.welcomed = True
            self._fleet.welcome(model, now_s)
        return True

    def _keep_company(self, now_s: float) -> None:
        for room in self._rooms.values():
            for place in room.held:
                if now_s - place.since_s < OPEN_S:
                    break
                self._open(place.x, now_s)

    def _open(self, x: Exchange, now_s: float) -> None:
        """Begin the stream of a client that has waited for long."""
        answer, ask, record = x.answer, x.ask, x.record
        if ask is None or not ask.stream or answer.begun or answer.opened or not x.request.head.http11:
            return
        lines = answer.framing(None, closing=False)
        if x.reservation is not None:
            lines += responses.rate_limit_lines(x.reservation)
        if x.envelope.origin is not None:
            lines += self._force.settings.cors.lines(x.envelope.origin)
        record.status = 200
        answer.open(responses.early_head(self._date.line, lines, x.request_id), now_s)
