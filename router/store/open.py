"""Which store a configuration asks for."""

from __future__ import annotations

from router import clock
from router.config import Config
from router.store.base import Store
from router.store.memory import MemoryStore


def open_store(config: Config, *, router_name: str) -> Store:
    """The store of ``[store] redis``. Nothing is connected or started before ``start``."""
    if config.store.redis is None:
        return MemoryStore(config.plans, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)
    raise NotImplementedError(router_name)
