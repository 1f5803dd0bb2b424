"""Routers that have died: each says four times a minute that it is there, and takes its word back when it stops.

A word that nobody renews is that of a router that died, or that cannot reach the store. It is kept for an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import orjson

from router import clock
from router.errors import RouterError
from router.store.base import Store
from router.tasks import stop, supervise

BEAT_S = 15.0
KEPT_S = 3600.0
#: Most routers that are remembered, the latest: pods of Kubernetes have a new name each time.
MOST = 100
#: An operator who asks for the routers waits for the store no longer than this.
WAIT_S = 1.0
_PREFIX = "router:"


class Attendance:
    """``card`` is the word of this router about itself to the others; it has a ``name``."""

    def __init__(self, store: Store, card: Callable[[], dict[str, Any]]) -> None:
        self._store = store
        self._card = card
        self.missed = False  # it does not stop in order: the others are to know
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = supervise(self._loop, name="attendance")

    async def stop(self) -> None:
        """It stops in order: nobody needs to look for it."""
        await stop(self._task)
        if self.missed:
            return
        with suppress(RouterError):
            await self._store.set_runtime(self._key, None)

    async def gone(self, there: Iterable[str]) -> list[dict[str, Any]]:
        """The cards of the others that were there within the last hour, with ``at_s`` of their last word. ``there``:
        names of those that are. Empty while the store is away or silent."""
        names = {*there, self._card().get("name")}
        try:
            async with asyncio.timeout(WAIT_S):
                words = _words(await self._store.get_runtime())
        except (RouterError, TimeoutError):
            return []
        oldest_s = clock.wall_s() - KEPT_S
        return [card for card in words.values() if card["name"] not in names and card["at_s"] >= oldest_s]

    async def beat(self) -> None:
        """Say that this router is there, and forget those that nobody needs to remember."""
        word = self._card() | {"at_s": clock.wall_s()}
        with suppress(RouterError):
            await self._store.set_runtime(self._key, orjson.dumps(word).decode())
            words = _words(await self._store.get_runtime())
            latest = sorted(words, key=lambda key: float(words[key]["at_s"]), reverse=True)
            for number, key in enumerate(latest):
                if number >= MOST or words[key]["at_s"] < clock.wall_s() - KEPT_S:
                    await self._store.set_runtime(key, None)

    @property
    def _key(self) -> str:
        return f"{_PREFIX}{self._card().get('name')}"

    async def _loop(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(BEAT_S)


def _words(runtime: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Entries that can be read, by their keys; those of another version count as very old."""
    found = {}
    for key, text in runtime.items():
        if not key.startswith(_PREFIX):
            continue
        try:
            word = orjson.loads(text)
            found[key] = word | {"name": str(word["name"]), "at_s": float(word["at_s"])}
        except (ValueError, TypeError, KeyError):
            found[key] = {"name": key.removeprefix(_PREFIX), "at_s": 0.0}
    return found
