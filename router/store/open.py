"""Chooses the store that the configuration asks for."""

from __future__ import annotations

from router import clock
from router.config import Config
from router.store.base import Store
from router.store.embedded import EmbeddedValkey
from router.store.memory import MemoryStore
from router.store.patience import Patience
from router.store.shared import SharedStore


def open_store(config: Config, *, router_name: str) -> Store:
    """The store of ``[store] redis``. Nothing is connected or started before ``start``.

    To share an embedded store among several router processes, their parent starts an EmbeddedValkey and replaces
    "embedded" by its ``url``. Raises StoreError if the extra is not installed.
    """
    url = config.store.redis
    if url is None:
        return MemoryStore(config.plans, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s)
    server = None
    if url == "embedded":
        server = EmbeddedValkey()
        url = server.url
    from router.store.redis import RedisLink  # a router without Redis does not pay for its import

    return SharedStore(
        RedisLink(url, Patience(config.store.wait)),
        config.plans,
        router_name=router_name,
        on_down=config.store.on_down,
        snapshot=config.store.snapshot,
        monotonic_s=clock.monotonic_s,
        wall_s=clock.wall_s,
        server=server,
    )
