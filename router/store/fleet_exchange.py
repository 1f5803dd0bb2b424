"""Routers tell each other what they have in flight where, so that none takes a busy backend for an idle one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import orjson

from router.store.base import Store
from router.store.courier import LinkError
from router.store.shared import SharedStore
from router.tasks import spawn, stop

PERIOD_S = 0.1
#: A message counts in full until it is this old …
FRESH_S = 0.5
#: … and from there less and less, to nothing.
STALE_S = 2.0
#: Backends in one message; the busiest are told.
BACKENDS_MAX = 1024

#: Backend -> leases in flight, and uncached prompt tokens among them.
Counts = Mapping[str, tuple[int, int]]


class FleetExchange:
    """Publishes this router's counts every PERIOD_S and hands the sum of the others' to ``heard``.

    A backend that the others have left is handed over once more, with zeros. Does nothing unless the store is shared.
    While the store is away ``heard`` gets what was last known, fading out.
    """

    def __init__(
        self,
        store: Store,
        counts: Callable[[], Counts],
        heard: Callable[[Counts], None],
        *,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._store = store if isinstance(store, SharedStore) else None
        self._counts = counts
        self._heard = heard
        self._monotonic_s = monotonic_s
        self._messages: dict[str, tuple[float, dict[str, tuple[int, int]]]] = {}  # router -> when it was true, counts
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<FleetExchange {len(self._messages)} peers>"

    async def start(self) -> None:
        if self._store is not None:
            self._task = spawn(self._loop(), name="fleet exchange")

    async def stop(self) -> None:
        await stop(self._task)
        self._task = None

    def peers(self) -> dict[str, tuple[int, int]]:
        """What the other routers hold now, as far as it is known: old news counts less."""
        now_s = self._monotonic_s()
        total: dict[str, tuple[int, int]] = {}
        for at_s, counts in self._messages.values():
            weight = min(1.0, (STALE_S - (now_s - at_s)) / (STALE_S - FRESH_S))
            if weight <= 0:
                continue
            for backend, (inflight, tokens) in counts.items():
                so_far = total.get(backend, (0, 0))
                total[backend] = (so_far[0] + round(weight * inflight), so_far[1] + round(weight * tokens))
        return total

    async def publish(self, counts: Counts) -> None:
        """Leave our counts and read the others'. Does nothing while the store is away."""
        if self._store is None:
            return
        try:
            messages = await self._store.exchange(orjson.dumps(_busiest(counts)))
        except LinkError:
            return
        now_s = self._monotonic_s()
        self._messages = {router: (now_s - age_s, _read(raw)) for router, age_s, raw in messages if age_s < STALE_S}

    async def _loop(self) -> None:
        told: set[str] = set()
        while True:
            began_s = self._monotonic_s()
            await self.publish(self._counts())
            peers = self.peers()
            self._heard(dict.fromkeys(told, (0, 0)) | peers)
            told = set(peers)
            await asyncio.sleep(max(0.0, PERIOD_S - (self._monotonic_s() - began_s)))


def _busiest(counts: Counts) -> dict[str, tuple[int, int]]:
    busy = [(name, count) for name, count in counts.items() if any(count)]
    if len(busy) > BACKENDS_MAX:
        busy = sorted(busy, key=lambda item: item[1], reverse=True)[:BACKENDS_MAX]
    return dict(busy)


def _read(raw: bytes) -> dict[str, tuple[int, int]]:
    """Another version's message, if it is not understood, counts as none."""
    try:
        return {str(name): (max(0, int(pair[0])), max(0, int(pair[1]))) for name, pair in orjson.loads(raw).items()}
    except (AttributeError, IndexError, TypeError, ValueError):
        return {}
