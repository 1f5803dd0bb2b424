"""How many backends run: counted, told to autoscalers, woken and put to sleep. The owner of all of that in one router.

Routers of one store tell each other how many requests wait in them, beside their counts of what is in flight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from router.config import AutoscalingSection, Config
from router.control.autoscalers import Autoscalers
from router.control.capacity import CensusTaker, goals_of
from router.control.dormants import Dormants
from router.control.lulling import Lulling
from router.control.sleepers import Sleepers
from router.control.starting import Starting
from router.control.waking import Waker
from router.core.census import Unheard
from router.core.fleet import Fleet
from router.core.types import Request
from router.observe.observer import Observer
from router.store.base import Store

#: Beside the names of backends, which have no blank, stands the model for which requests wait.
_WAITING = "waiting "


class Scaling:
    """``waiting`` counts the requests that wait in this router, for a place or for a backend, by model; ``held`` has
    the latter of one model. ``asking``: where autoscalers ask this process."""

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        observer: Observer,
        config: Callable[[], Config],
        *,
        waiting: Callable[[], Mapping[str, int]],
        held: Callable[[str], Sequence[Request]],
        asking: AutoscalingSection,
        shared: bool,
        unheard: Unheard,
        now_s: Callable[[], float],
    ) -> None:
        """Raises ConfigError for a bad certificate."""
        self._waiting = waiting
        self._elsewhere: Counter[str] = Counter()
        self._stack = AsyncExitStack()
        self.capacity = CensusTaker(
            fleet, lambda: goals_of(config()), self._waiting_anywhere, unheard=unheard, now_s=now_s
        )
        sleepers, self._starting = Sleepers(fleet, store), Starting(observer)
        self.dormants = Dormants(fleet, store, sleepers, config, held, now_s=now_s)
        self.waker = Waker(self.dormants, self._starting, self._needed)
        self._lulling = Lulling(self.dormants, store, self._starting, self.waker)
        self.autoscalers = Autoscalers(asking, self.capacity.told, shared=shared)

    async def start(self) -> None:
        await self.dormants.sleepers.start()
        self._stack.push_async_callback(self.dormants.sleepers.stop)
        await self._stack.enter_async_context(self._starting)
        self._stack.push_async_callback(self.waker.stop)
        for part in (self._lulling, self.capacity, self.autoscalers):
            await part.start()
            self._stack.push_async_callback(part.stop)

    async def stop(self) -> None:
        await self._stack.aclose()

    def _needed(self, model: str, region: str) -> int:
        return next((g.needed or 0 for g in self.capacity.groups() if (g.model, g.region) == (model, region)), 0)

    def counts(self) -> dict[str, tuple[int, int]]:
        """For the other routers."""
        return {_WAITING + model: (count, 0) for model, count in self._waiting().items()}

    def heard(self, name: str, count: int) -> None:
        """All other routers together have told this."""
        if name.startswith(_WAITING):
            self._elsewhere[name.removeprefix(_WAITING)] = count

    def _waiting_anywhere(self) -> Mapping[str, int]:
        return Counter(self._waiting()) + self._elsewhere
