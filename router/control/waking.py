"""Wakes models of which nothing runs and nothing need run, when a request comes.

One call wakes a model, however many requests wait and in however many routers: who holds its lock in the store calls,
the others wait for what comes of it. The lock is kept until a backend runs, and then until every router has seen that.
A call that fails is made again, ever more rarely; one after which nothing runs is made again after twice the usual time
of a start, half a minute at least. When several calls in a row have failed, requests are refused until the next one.

More backends are woken where some sleep and ``core/needed`` asks for more than run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from router.control.dormants import Dormant, Dormants
from router.control.starting import Starting, StartingError
from router.core.backend import Backend
from router.core.dormancy import TRIES, Hindrance, region_to_wake, unserved
from router.core.types import Request
from router.tasks import spawn, stop

_log = logging.getLogger("router.control")

#: Between two looks at whether a woken model runs, or another router has given up its lock.
_POLL_S = 0.2
_AGAIN_S, _AGAIN_S_MAX = 1.0, 15.0
_RUNS_S_MIN = 30.0
#: A call takes no longer than this; that of an engine ends when it has loaded its weights.
_CALL_S, _ENGINE_CALL_S = 30.0, 330.0
#: Besides two probes: every router has seen by then that a backend runs.
_SEEN_S = 2.0
WAKE = "wake"


class Waker:
    """``needed``: how many backends of a model a region needs, 0 if nobody can say."""

    def __init__(self, dormants: Dormants, starting: Starting, needed: Callable[[str, str], int]) -> None:
        self._dormants = dormants
        self._starting = starting
        self._needed = needed
        self._settling: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        await stop(*(known.task for known in self._dormants.models.values()), *self._settling)

    # towards requests

    def wake(self, model: str) -> None:
        """Requests are held until something runs that may take them. May be called for each of them."""
        known = self._dormants.known(model)
        refused = known.trouble is not None and known.trouble.refuses(self._dormants.now_s())
        if known.idling and not refused and self._unserved(model, self._dormants.held(model)):
            known.task = spawn(self._wake(model, known), name=f"wake {model}")

    def wait_s(self, model: str) -> float:
        """How long it takes from now until a backend of the model runs, as far as is known."""
        known, now_s = self._dormants.known(model), self._dormants.now_s()
        takes_s = self._dormants.takes_s(model, known)
        if known.trouble is not None:
            return max(1.0, known.trouble.wait_s(takes_s, now_s))
        since_s = 0.0 if known.waking_s is None else now_s - known.waking_s
        return max(1.0, takes_s - since_s)

    def wake_more(self, model: str) -> None:
        """Wake others of it where fewer run than are needed, if some sleep there."""
        known = self._dormants.known(model)
        if not known.idling or self._dormants.now_s() < known.no_more_until_s:
            return
        if (region := self._short(model)) is not None:
            known.task = spawn(self._more(model, known, region), name=f"wake more of {model}")

    # wake

    async def _wake(self, model: str, known: Dormant) -> None:
        known.waking_s = began_s = self._dormants.now_s()
        pause_s, told = _AGAIN_S, False
        try:
            while wanted := self._unserved(model, self._dormants.held(model)):
                region = known.region = self._region(model, wanted)
                claims = self._claims(model, region, wanted)
                within_s = max(_RUNS_S_MIN, 2.0 * self._dormants.takes_s(model, known))
                if not await self._dormants.claim_all(claims, self._call_s(model) + within_s):
                    await asyncio.sleep(_POLL_S)  # another router does it
                    continue
                if not told:
                    told = True
                    held = f"{len(self._dormants.held(model))} held for it"
                    self._dormants.tell(WAKE, model, "asleep", "waking", f"{held}, in {region}" if region else held)
                try:
                    await self._call_to_wake(model, region, max(1, self._dormants.settings(model).least))
                    if not await self._until_runs(model, wanted, within_s):
                        text = f"nothing runs {within_s:.0f} s after the call that starts it"
                        raise StartingError(text)
                except StartingError as error:
                    await self._dormants.release(*claims)
                    self._failed(model, known, error, pause_s)
                    if known.trouble is not None and known.trouble.tries >= TRIES:
                        return  # those who wait are sent away; a later request calls again
                    await asyncio.sleep(pause_s)
                    pause_s = min(2.0 * pause_s, _AGAIN_S_MAX)
                    continue
                self._release_soon(claims)
            if self._dormants.runs(model):
                await self._forget_gone()
                self._runs(model, known, began_s, told)
        finally:
            known.waking_s = None

    async def _more(self, model: str, known: Dormant, region: str) -> None:
        """Those that run cannot take what comes, and others of the region sleep."""
        there, number = self._dormants.there(model, region), self._needed(model, region)
        number = min(number, sum(b.region == region for b in self._dormants.backends(model)))
        claims = (f"{WAKE}:{model}:{region}",)
        within_s = max(_RUNS_S_MIN, 2.0 * self._dormants.takes_s(model, known))
        if not await self._dormants.claim_all(claims, self._call_s(model) + within_s):
            await asyncio.sleep(_POLL_S)
            return
        self._dormants.tell(WAKE, model, "running", "waking", f"{there} in {region}, and {number} are needed")
        try:
            await self._call_to_wake(model, region, number)
            await self._until(lambda: self._dormants.there(model, region) > there, model, within_s)
        except StartingError as error:
            self._dormants.fail(model, known, WAKE, f"no more of {model} can be woken: {error}")
            known.no_more_until_s = self._dormants.now_s() + within_s
        self._release_soon(claims)

    def _short(self, model: str) -> str | None:
        """A region where fewer backends run than are needed, and some sleep."""
        regions = {b.region for b in self._dormants.backends(model) if b.asleep and not b.draining}
        return next((r for r in sorted(regions) if self._dormants.there(model, r) < self._needed(model, r)), None)

    def _region(self, model: str, wanted: Sequence[Request]) -> str | None:
        config = self._dormants.config()
        wake = self._dormants.settings(model).wake
        backends = [b for b in self._dormants.backends(model) if not b.draining]
        if wake.url is None and wake.scale is None:  # only those that can be asked themselves
            asleep = self._dormants.sleepers.asleep
            backends = [b for b in backends if asleep.get(b.name) == "engine"] or backends
        places = {s.region for s in config.sources if not s.models or model in s.models}
        return region_to_wake(wanted, backends, places, config.router.region)

    def _call_s(self, model: str) -> float:
        """How long a call may take: the lock must outlast it."""
        asleep = self._dormants.sleepers.asleep
        return (
            _ENGINE_CALL_S if any(asleep.get(b.name) == "engine" for b in self._dormants.backends(model)) else _CALL_S
        )

    @staticmethod
    def _claims(model: str, region: str | None, wanted: Sequence[Request]) -> tuple[str, ...]:
        """The locks of a wake: that of the region, and that of the model if any region would do."""
        bound = all(r.residency is not None or r.pin_region is not None or r.pin_backend is not None for r in wanted)
        of_region = f"{WAKE}:{model}:{region or ''}"
        return (of_region,) if bound else (of_region, f"{WAKE}:{model}")

    async def _call_to_wake(self, model: str, region: str | None, number: int) -> None:
        wake = self._dormants.settings(model).wake
        sleeping = self._sleeping(model, region)
        missing = max(1, number - (self._dormants.there(model, region) if region is not None else 0))
        woken, failed = 0, None
        for b in sleeping:
            self._dormants.count(model, WAKE)
            _log.info("%s is asked to wake up for %s", b.name, model)
            try:
                await self._wake_up(b)
                woken += 1
            except StartingError as error:  # another one may wake up
                failed = error
            if woken == missing:
                break
        if woken:
            return
        if wake.url is not None or wake.scale is not None:
            self._dormants.count(model, WAKE)
            _log.info("a backend of %s is being started%s", model, f" in {region}" if region else "")
        started = await self._starting.backends(wake, model, region, number)
        if failed is not None and not started:
            raise failed
        if not started:
            told = "nothing is configured that starts one"
            raise StartingError("[models.NAME.wake] names neither url nor scale, and no engine sleeps", told=told)

    def _sleeping(self, model: str, region: str | None) -> list[Backend]:
        """Engines that can be asked, the cheapest first."""
        asleep = self._dormants.sleepers.asleep
        found = [b for b in self._dormants.backends(model) if asleep.get(b.name) == "engine"]
        found = [b for b in found if region in (None, b.region) and not b.draining]
        return sorted(found, key=lambda b: (b.spec.cost_usd_hour, b.rtt_s))

    async def _wake_up(self, b: Backend) -> None:
        """It runs after this. One that answers and has no way to be woken is another process than the one that was told
        to sleep, and never slept. Raises StartingError."""
        await self._starting.engine(b.name, awake=True)
        await self._dormants.sleepers.put({b.name: None})

    async def _until_runs(self, model: str, wanted: Sequence[Request], within_s: float) -> bool:
        """Whether one of them can be served within that time, though all of them may leave meanwhile."""
        return await self._until(lambda: len(self._unserved(model, wanted)) < len(wanted), model, within_s)

    def _unserved(self, model: str, requests: Sequence[Request]) -> list[Request]:
        return unserved(requests, self._dormants.backends(model), self._dormants.now_s())

    async def _until(self, there: Callable[[], bool], model: str, within_s: float) -> bool:
        """Those that were ended sleep until they answer a probe: what listens there now may be about to end."""
        called_s = self._dormants.now_s()
        while not there():
            if self._dormants.now_s() >= called_s + within_s:
                return False
            await asyncio.sleep(_POLL_S)
            asleep = self._dormants.sleepers.asleep
            ended = [b for b in self._dormants.backends(model) if asleep.get(b.name) == "scaled"]
            up = [b for b in ended if b.health.last_probe_ok and b.health.last_probe_s > called_s]
            if up:
                await self._dormants.sleepers.put({b.name: None for b in up})
        return True

    def _runs(self, model: str, known: Dormant, began_s: float, told: bool) -> None:
        known.trouble = None
        known.takes_s = self._dormants.now_s() - began_s
        text = f"{known.takes_s:.1f} s after the first request for it"
        _log.info("%s runs, %s", model, text)
        if told:
            self._dormants.tell(WAKE, model, "waking", "running", text)

    def _failed(self, model: str, known: Dormant, error: StartingError, pause_s: float) -> None:
        """Nothing runs, because of this. Those who wait are told, and operators."""
        before, now_s = known.trouble, self._dormants.now_s()
        tries = 1 if before is None else before.tries + 1
        again_s = now_s + (pause_s if tries < TRIES else _AGAIN_S_MAX)
        since_s = now_s if before is None else before.since_s
        known.trouble = Hindrance(f"{model} cannot be woken: {error}", error.told, since_s, again_s, tries)
        self._dormants.fail(model, known, WAKE, known.trouble.why)
        if before is None or before.why != known.trouble.why:
            self._dormants.tell(WAKE, model, "waking", "failed", str(error))
        elif tries == TRIES:
            self._dormants.tell(WAKE, model, "waking", "failed", f"{tries} calls have failed: {error}")

    async def _forget_gone(self) -> None:
        """Those that run now have other names than those that were ended, as pods do."""
        known = self._dormants.fleet.backends
        gone = [name for name in self._dormants.sleepers.asleep if name not in known]
        if gone:
            await self._dormants.sleepers.put(dict.fromkeys(gone))

    def _release_soon(self, names: Collection[str]) -> None:
        """A backend runs. Who has not seen that yet must not call again."""
        task = spawn(self._release_seen(names), name="end of a wake")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _release_seen(self, names: Collection[str]) -> None:
        await asyncio.sleep(_SEEN_S + 2.0 * self._dormants.config().probes.interval)
        await self._dormants.release(*names)
