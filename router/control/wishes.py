"""Operators' wishes about backends and regions, shared by all routers: drains and notices are made of this.

Each router brings its fleet in line with the wishes in the store (see ``shared_entries``).
"""

from __future__ import annotations

from collections.abc import Mapping

from router.control.shared_entries import SharedEntries
from router.core.fleet import Fleet
from router.store.base import Store


class Wishes(SharedEntries):
    """Wishes of one kind: the name of a backend or a region, and a value."""

    def __init__(self, fleet: Fleet, store: Store) -> None:
        super().__init__(store)
        self._fleet = fleet
        self._wished: dict[str, str] = {}
        self._applied: dict[str, str] = {}

    def apply(self, name: str, value: str | None) -> None:
        """Tell the fleet. None: the wish is over."""
        raise NotImplementedError

    async def put(self, changes: Mapping[str, str | None]) -> bool:
        """Wish, or end wishes. Takes effect here at once.

        Returns whether the other routers know: False while the store is away.
        """
        async with self._lock:
            for name, value in changes.items():
                self._wished.pop(name, None)
                if value is not None:
                    self._wished[name] = value
                self._unsent[name] = value
            self._bring_in_line()
            return await self._send()

    def take(self, entries: Mapping[str, str]) -> None:
        self._wished = dict(entries)
        self._bring_in_line()

    def ending(self, name: str) -> dict[str, str | None]:
        """The changes that end the wish for ``name``. That of a region ends those for its backends; to end it for one
        backend of a region, the region's wish becomes one for each of the others."""
        region, _, short = name.partition("/")
        siblings = [b.name for b in self._fleet.backends.values() if b.region == region]
        if not short:
            return dict.fromkeys([name, *(b for b in siblings if b in self._wished)])
        if region not in self._wished:
            return {name: None}
        value = self._wished[region]
        others: dict[str, str | None] = {b: self._wished.get(b, value) for b in siblings if b != name}
        return {region: None, name: None} | others

    def _bring_in_line(self) -> None:
        for name in sorted({*self._applied, *self._wished}):
            if (value := self._wished.get(name)) != self._applied.get(name):
                self.apply(name, value)
        self._applied = dict(self._wished)
