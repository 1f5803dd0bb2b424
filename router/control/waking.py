"""Models of which nothing need run: wakes or starts a backend when a request comes, lets backends sleep when none do.

One call wakes a model, however many requests wait and in however many routers: who holds its lock in the store calls,
the others wait for what comes of it. A call that fails is made again, ever more rarely; one after which nothing runs is
made again after twice the usual time of a start, half a minute at least.

A model is put to sleep when no router has seen a request for it for ``idle_s``: its backends get nothing new, what they
have ends, and then the engine is told to sleep, or else the webhook or the scale subresource to run none. A request
that comes in between ends the attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from router.complaint import Complaint
from router.config import Config, ModelAlias
from router.control.sleepers import Sleepers
from router.control.starting import Starting, StartingError
from router.core.backend import Backend
from router.core.fleet import Fleet
from router.core.traits import TRAITS
from router.errors import RouterError
from router.store.base import Store
from router.tasks import spawn, stop, supervise

_log = logging.getLogger("router.control")

_LOOK_S = 0.5
#: Between two looks at whether a woken model runs, or another router has given up its lock.
_POLL_S = 0.2
_AGAIN_S, _AGAIN_S_MAX = 1.0, 15.0
_RUNS_S_MIN = 30.0
#: Requests that other routers sent before they heard that a backend sleeps have come by then.
_QUIET_S = 1.5
_DRAIN_S = 300.0
#: A model that nothing puts to sleep is not tried again for this long.
_CANNOT_S = 3600.0
_ASKED, _WAKE, _SLEEP = "asked", "wake", "sleep"


@dataclass(slots=True)
class _Model:
    """One model that may sleep."""

    busy_s: float
    requests: int = -1
    told_s: float = float("-inf")
    #: when the wake began, and how long the last ones took; None: no wake is under way
    waking_s: float | None = None
    takes_s: float | None = None
    cannot_until_s: float = float("-inf")
    task: asyncio.Task[None] | None = None
    wakes: int = 0
    complaint: Complaint | None = None


class Waker:
    """``held`` counts the requests that are held, by model."""

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        sleepers: Sleepers,
        starting: Starting,
        config: Callable[[], Config],
        held: Callable[[], Mapping[str, int]],
        *,
        now_s: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._sleepers = sleepers
        self._starting = starting
        self._config = config
        self._held = held
        self._now_s = now_s
        self._models: dict[str, _Model] = {}
        self._task: asyncio.Task[None] | None = None
        #: calls that were made, by model and action
        self.calls: dict[tuple[str, str], int] = {}

    async def start(self) -> None:
        await self._sleepers.start()
        await self._starting.__aenter__()
        self._task = supervise(self._loop, name="waking")

    async def stop(self) -> None:
        await stop(self._task, *(known.task for known in self._models.values()))
        await self._starting.__aexit__(None, None, None)
        await self._sleepers.stop()

    # towards requests

    def wake(self, model: str) -> None:
        """A request is held until something runs. May be called for each of them."""
        known = self._known(model)
        if known.task is None or known.task.done():
            known.task = spawn(self._wake(model, known), name=f"wake {model}")

    def wait_s(self, model: str) -> float:
        """How long it takes from now until a backend of the model runs, as far as is known."""
        known = self._known(model)
        since_s = 0.0 if known.waking_s is None else self._now_s() - known.waking_s
        return max(1.0, self._takes_s(model, known) - since_s)

    def _known(self, model: str) -> _Model:
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = _Model(self._now_s())
        return known

    def _settings(self, model: str) -> ModelAlias:
        return self._config().models.get(model) or ModelAlias(model)

    def _takes_s(self, model: str, known: _Model) -> float:
        return self._settings(model).cold_start_s if known.takes_s is None else known.takes_s

    def backends(self, model: str) -> list[Backend]:
        return [b for b in self._fleet.backends.values() if b.serves(model)]

    def runs(self, model: str) -> bool:
        now_s = self._now_s()
        return any(b.usable(now_s) and not b.health.away for b in self.backends(model))

    # wake

    async def _wake(self, model: str, known: _Model) -> None:
        known.waking_s = began_s = self._now_s()
        pause_s = _AGAIN_S
        try:
            while self._held().get(model) and not self.runs(model):
                again_s = max(_RUNS_S_MIN, 2.0 * self._takes_s(model, known))
                if not await self._claim(f"{_WAKE}:{model}", again_s):
                    await asyncio.sleep(_POLL_S)  # another router does it
                    continue
                try:
                    await self._call_to_wake(model)
                except StartingError as error:
                    self._complain(model, known, f"{model} cannot be woken: {error}")
                    await self._release(f"{_WAKE}:{model}")
                    await asyncio.sleep(pause_s)
                    pause_s = min(2.0 * pause_s, _AGAIN_S_MAX)
                    continue
                await self._until_runs(model, again_s)
                await self._release(f"{_WAKE}:{model}")
            if self.runs(model):
                await self._forget_ended(model)
                known.takes_s = self._now_s() - began_s
                _log.info("%s runs, %.1f s after the first request for it", model, known.takes_s)
        finally:
            known.waking_s = None

    async def _call_to_wake(self, model: str) -> None:
        settings, number = self._settings(model), max(1, self._settings(model).least)
        asleep = self._sleepers.asleep
        sleeping = [b for b in self.backends(model) if asleep.get(b.name) == "engine"]
        if sleeping:
            b = min(sleeping, key=lambda b: (b.spec.cost_usd_hour, b.rtt_s))
            self._count(model, _WAKE)
            _log.info("%s is asked to wake up for %s", b.name, model)
            if await self._starting.engine(b.name, awake=True):
                await self._sleepers.put({b.name: None})
                return
        region = self._config().router.region
        if settings.wake.url is not None or settings.wake.scale is not None:
            self._count(model, _WAKE)
            _log.info("a backend of %s is being started", model)
        if not await self._starting.backends(settings.wake, model, region, number) and not sleeping:
            raise StartingError("[models.NAME.wake] names neither url nor scale, and no engine sleeps")

    async def _until_runs(self, model: str, within_s: float) -> None:
        """Those that were ended sleep until they answer a probe: what listens there now may be about to end."""
        called_s = self._now_s()
        while not self.runs(model) and self._now_s() < called_s + within_s and self._held().get(model):
            await asyncio.sleep(_POLL_S)
            asleep = self._sleepers.asleep
            ended = [b for b in self.backends(model) if asleep.get(b.name) == "scaled"]
            up = [b for b in ended if b.health.last_probe_ok and b.health.last_probe_s > called_s]
            if up:
                await self._sleepers.put({b.name: None for b in up})

    async def _forget_ended(self, model: str) -> None:
        """Others run now. Of those that were ended no more is said than that they do not answer."""
        backends = self._fleet.backends
        ended = [name for name, how in self._sleepers.asleep.items() if how == "scaled"]
        over = [name for name in ended if name not in backends or backends[name].serves(model)]
        if over:
            await self._sleepers.put(dict.fromkeys(over))

    # sleep

    async def _loop(self) -> None:
        while True:
            for model in self._fleet.dormant:
                self._watch(model, self._known(model))
            await asyncio.sleep(_LOOK_S)

    def _watch(self, model: str, known: _Model) -> None:
        """Note whether it is used, here and by others, and let it sleep when it is not."""
        now_s, idle_s = self._now_s(), self._settings(model).idle_s
        backends, mark = self.backends(model), _digest(model)
        requests = sum(b.requests_total for b in backends)
        busy = any(b.inflight or b.others_inflight >= 0.5 for b in backends) or requests != known.requests
        if busy or self._held().get(model):
            known.busy_s, known.requests = now_s, requests
            if now_s - known.told_s >= min(1.0, idle_s / 4):
                known.told_s = now_s
                self._store.mark(_ASKED, mark, idle_s)
            return
        idle = now_s - known.busy_s >= idle_s and not self._store.marked(_ASKED, mark)
        free = known.task is None or known.task.done()
        if idle and free and now_s >= known.cannot_until_s and self.runs(model):
            known.task = spawn(self._sleep(model, known), name=f"let {model} sleep")

    async def _sleep(self, model: str, known: _Model) -> None:
        if not await self._claim(f"{_SLEEP}:{model}", _DRAIN_S):
            known.busy_s = self._now_s()  # another router does it; look again later
            return
        now_s = self._now_s()
        dormant = self._fleet.dormant
        chosen = [b for b in self.backends(model) if b.usable(now_s) and all(m in dormant for m in b.models or ())]
        how = {b.name: "engine" if TRAITS[b.spec.engine].sleeps else "scaled" for b in chosen}
        _log.info("%s is idle: %s", model, ", ".join(how) or "nothing of it can sleep")
        try:
            await self._sleepers.put(how)
            if not await self._drained(model, chosen):
                await self._sleepers.put(dict.fromkeys(how))
                return
            await self._call_to_sleep(model, known, how)
        except StartingError as error:
            self._complain(model, known, f"{model} cannot be put to sleep: {error}")
            known.cannot_until_s = self._now_s() + _RUNS_S_MIN
            await self._sleepers.put(dict.fromkeys(how))
        finally:
            await self._release(f"{_SLEEP}:{model}")

    async def _drained(self, model: str, backends: list[Backend]) -> bool:
        """Wait for the requests that run there. False: a new one has come, or they last too long."""
        began_s = self._now_s()
        while self._now_s() - began_s < _DRAIN_S:
            if self._held().get(model):
                return False
            busy = any(b.inflight or b.others_inflight >= 0.5 for b in backends)
            if not busy and self._now_s() - began_s >= _QUIET_S:
                return True
            await asyncio.sleep(_POLL_S)
        return False

    async def _call_to_sleep(self, model: str, known: _Model, how: dict[str, str]) -> None:
        self._count(model, _SLEEP)
        awake = [name for name, kind in how.items() if kind != "engine"]
        for name, kind in how.items():
            if kind == "engine" and not await self._starting.engine(name, awake=False):
                awake.append(name)
        if not awake:
            return
        wake = self._settings(model).wake
        if await self._starting.backends(wake, model, self._config().router.region, 0):
            await self._sleepers.put(dict.fromkeys(awake, "scaled"))
            return
        self._complain(model, known, f"{model} is idle, and nothing puts it to sleep: {', '.join(awake)}")
        known.cannot_until_s = self._now_s() + _CANNOT_S
        await self._sleepers.put(dict.fromkeys(awake))

    # with other routers

    async def _claim(self, name: str, ttl_s: float) -> bool:
        """While the store is away every router acts for itself: a second call does less harm than none."""
        try:
            return await self._store.claim(name, ttl_s)
        except RouterError:
            return True

    async def _release(self, name: str) -> None:
        try:
            await self._store.release(name)
        except RouterError:
            return

    def _count(self, model: str, action: str) -> None:
        self.calls[model, action] = self.calls.get((model, action), 0) + 1

    def _complain(self, model: str, known: _Model, text: str) -> None:
        known.complaint = known.complaint or Complaint()
        if known.complaint.worth_a_line(text, self._now_s()):
            _log.warning("%s", text)


def _digest(model: str) -> str:
    return hashlib.blake2s(model.encode(), digest_size=8).hexdigest()
