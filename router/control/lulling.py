"""Puts models to sleep of which nothing need run: when no router has seen a request for one for ``idle_s``.

Its backends get nothing new, what they have ends, and then the engine is told to sleep, or else the webhook or the
scale subresource to run none. A request that comes in between ends the attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection

from router.control.dormants import Dormant, Dormants
from router.control.starting import Starting, StartingError
from router.control.waking import Waker
from router.core.backend import Backend
from router.core.traits import TRAITS
from router.store.base import Store
from router.tasks import spawn, stop, supervise

_log = logging.getLogger("router.control")

_LOOK_S = 0.5
_POLL_S = 0.2
#: Requests that other routers sent before they heard that a backend sleeps have come by then.
_QUIET_S = 1.5
_DRAIN_S = 300.0
#: One that nothing puts to sleep is not tried again for this long; one at which a call failed, for that long.
_CANNOT_S, _FAILED_S = 3600.0, 30.0
#: A wake that has failed is forgotten so long after the time of the next call, if nobody asks.
_STALE_S = 600.0
_ASKED, SLEEP = "asked", "sleep"


class Lulling:
    """The owner of the loop that watches all of them. ``waker`` is asked for more where fewer run than are needed."""

    def __init__(self, dormants: Dormants, store: Store, starting: Starting, waker: Waker) -> None:
        self._dormants = dormants
        self._store = store
        self._starting = starting
        self._waker = waker
        self._task: asyncio.Task[None] | None = None
        #: those that sleep, and have been seen not to answer
        self._ended: set[str] = set()

    async def start(self) -> None:
        self._task = supervise(self._loop, name="idle models")

    async def stop(self) -> None:
        await stop(self._task)

    async def _loop(self) -> None:
        while True:
            for model in self._dormants.fleet.dormant:
                self._watch(model, self._dormants.known(model))
            await self._notice_the_started()
            await asyncio.sleep(_LOOK_S)

    async def _notice_the_started(self) -> None:
        """One that sleeps, did not answer or was not there, and answers again was started by somebody. An engine is
        asked, because one that sleeps may miss a probe, too."""
        known, asleep = self._dormants.fleet.backends, self._dormants.sleepers.asleep
        self._ended = {
            name
            for name in asleep
            if name in self._ended or name not in known or known[name].health.last_probe_ok is False
        }
        for name in [name for name in self._ended if name in known and known[name].health.last_probe_ok]:
            sleeps = await self._starting.sleeps(name) if asleep[name] == "engine" else False
            if sleeps is None:
                continue
            self._ended.discard(name)
            if not sleeps:
                await self._dormants.sleepers.put({name: None})

    def _watch(self, model: str, known: Dormant) -> None:
        """Note whether it is used, here and by others, and let it sleep when it is not."""
        now_s, idle_s = self._dormants.now_s(), self._dormants.settings(model).idle_s
        backends, mark = self._dormants.backends(model), _digest(model)
        runs, held = self._dormants.runs(model), self._dormants.held(model)
        if (
            known.trouble is not None
            and known.idling
            and ((runs and not held) or now_s > known.trouble.again_s + _STALE_S)
        ):
            known.trouble = None
        requests = sum(b.requests_total for b in backends)
        busy = any(b.inflight or b.others_inflight >= 0.5 for b in backends) or requests != known.requests
        if busy or held:
            known.restless = None
            if held:  # one may have come while it was put to sleep
                self._waker.wake(model)
            if runs:
                self._waker.wake_more(model)
            known.busy_s, known.requests = now_s, requests
            if now_s - known.told_s >= min(1.0, idle_s / 4):
                known.told_s = now_s
                self._store.mark(_ASKED, mark, idle_s)
            return
        idle = now_s - known.busy_s >= idle_s and not self._store.marked(_ASKED, mark)
        if idle and known.idling and runs and (now_s >= known.cannot_until_s or self._is_new(model, known)):
            known.task = spawn(self._sleep(model, known), name=f"let {model} sleep")

    def _is_new(self, model: str, known: Dormant) -> bool:
        """The configuration has changed since nothing could put it to sleep."""
        return known.cannot_with is not None and known.cannot_with != self._dormants.settings(model).wake

    async def _sleep(self, model: str, known: Dormant) -> None:
        if not await self._dormants.claim(f"{SLEEP}:{model}", _DRAIN_S):
            known.busy_s = self._dormants.now_s()  # another router does it; look again later
            return
        now_s = self._dormants.now_s()
        dormant = self._dormants.fleet.dormant
        chosen = [
            b for b in self._dormants.backends(model) if b.usable(now_s) and all(m in dormant for m in b.models or ())
        ]
        how = {b.name: "engine" if TRAITS[b.spec.engine].sleeps else "scaled" for b in chosen}
        _log.info("%s is idle: %s", model, ", ".join(how) or "nothing of it can sleep")
        try:
            await self._dormants.sleepers.put(how)
            if not await self._drained(model, chosen):
                await self._dormants.sleepers.put(dict.fromkeys(how))
                return
            await self._call_to_sleep(model, known, how)
        except StartingError as error:
            known.restless = f"{model} cannot be put to sleep: {error}"
            self._dormants.fail(model, known, SLEEP, known.restless)
            self._dormants.tell(SLEEP, model, "running", "failed", str(error))
            known.cannot_until_s, known.cannot_with = self._dormants.now_s() + _FAILED_S, None
            await self._dormants.sleepers.put(dict.fromkeys(how))
        finally:
            await self._dormants.release(f"{SLEEP}:{model}")

    async def _drained(self, model: str, backends: list[Backend]) -> bool:
        """Wait for the requests that run there. False: a new one has come, or they last too long."""
        began_s = self._dormants.now_s()
        while self._dormants.now_s() - began_s < _DRAIN_S:
            if self._dormants.held(model):
                return False
            busy = any(b.inflight or b.others_inflight >= 0.5 for b in backends)
            if not busy and self._dormants.now_s() - began_s >= _QUIET_S:
                return True
            await asyncio.sleep(_POLL_S)
        return False

    async def _call_to_sleep(self, model: str, known: Dormant, how: dict[str, str]) -> None:
        self._dormants.count(model, SLEEP)
        awake = [name for name, kind in how.items() if kind != "engine"]
        for name, kind in how.items():
            if kind == "engine" and not await self._starting.engine(name, awake=False):
                awake.append(name)
        wake = self._dormants.settings(model).wake
        if awake and not await self._end(model, awake):
            known.restless = f"{model} is idle, and nothing puts it to sleep: {', '.join(awake)}"
            self._dormants.complain(known, known.restless)
            known.cannot_until_s, known.cannot_with = self._dormants.now_s() + _CANNOT_S, wake
            await self._dormants.sleepers.put(dict.fromkeys(awake))
        if slept := [name for name in how if name not in awake or wake.url is not None or wake.scale is not None]:
            idle = f"no request for {self._dormants.settings(model).idle_s:g} s: {', '.join(slept)}"
            self._dormants.tell(SLEEP, model, "running", "asleep", idle)

    async def _end(self, model: str, backends: Collection[str]) -> bool:
        """None of these runs any more, region by region. False: nothing can end them. Raises StartingError."""
        wake, ended = self._dormants.settings(model).wake, False
        for region in sorted({name.partition("/")[0] for name in backends}):
            ended = await self._starting.backends(wake, model, region, 0)
            if ended:
                members = [name for name in backends if name.partition("/")[0] == region]
                await self._dormants.sleepers.put(dict.fromkeys(members, "scaled"))
        return ended


def _digest(model: str) -> str:
    return hashlib.blake2s(model.encode(), digest_size=8).hexdigest()
