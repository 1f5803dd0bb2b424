"""A store in memory that several routers share, and that can go away."""

from __future__ import annotations

from router import clock
from router.config import Plan
from router.errors import RouterError
from router.store.memory import MemoryStore


class SharedStore(MemoryStore):
    away = False

    def __init__(self) -> None:
        super().__init__({"default": Plan("default")}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)

    async def set_runtime(self, name: str, value: str | None) -> None:
        if self.away:
            raise RouterError("store_unavailable")
        await super().set_runtime(name, value)

    async def get_runtime(self) -> dict[str, str]:
        if self.away:
            raise RouterError("store_unavailable")
        return await super().get_runtime()
