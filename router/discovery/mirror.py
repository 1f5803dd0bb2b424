"""Keeps a copy of the objects of one kind as the API of a cluster tells them: listed once, then watched.

A watch that ends is taken up where it ended, and what was missed comes first. Only when the API does not remember that
far back (410 Gone) all is listed again. Bookmarks move the place forward while nothing changes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from router.core.types import Rng
from router.discovery.cluster_api import Cluster, ClusterError, GoneError, Resource, WatchEvent

_PAUSE_S = 0.2
_PAUSE_S_MAX = 30.0
#: A watch that ended by itself is begun again at once, but not more often than this.
_WATCH_S_MIN = 0.1


class Mirror:
    """``changed`` is called when the copy is complete and after each change; ``failed`` with the reason when the API
    does not answer, or refuses. ``keep`` what is needed of an object: the rest is not remembered."""

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        *,
        changed: Callable[[], None],
        failed: Callable[[str], None],
        keep: Callable[[dict[str, Any]], Any] = lambda thing: thing,
        rng: Rng | None = None,
    ) -> None:
        self.resource = resource
        #: by namespace and name; None: never listed yet
        self.objects: dict[str, Any] | None = None
        self.version = ""
        #: how often everything was listed
        self.lists = 0
        self._cluster = cluster
        self._changed = changed
        self._failed = failed
        self._keep = keep
        self._rng = rng if rng is not None else random.Random()
        self._pause_s = _PAUSE_S
        #: a watch has begun and told nothing yet
        self._begun = False
        self._interrupted = False

    async def run(self) -> None:
        while True:
            try:
                await self._follow()
            except GoneError:
                self.version = ""
                await self._rest(0.0)
            except ClusterError as error:
                if not self._begun or self._interrupted:  # a watch that breaks off once is taken up without a word
                    self._failed(str(error))
                self._interrupted = True
                await self._rest(error.retry_after_s)

    async def _follow(self) -> None:
        if not self.version:
            await self._list()
        while True:
            self._begun = False
            began_s = asyncio.get_running_loop().time()
            async for event in self._cluster.watch(self.resource, self.version):
                self._take(event)
            self._pause_s = _PAUSE_S
            lasted_s = asyncio.get_running_loop().time() - began_s
            await asyncio.sleep(max(0.0, _WATCH_S_MIN - lasted_s))

    async def _list(self) -> None:
        listed = await self._cluster.list(self.resource)
        self.objects = {_key(thing): self._keep(thing) for thing in listed.objects}
        self.version = listed.version
        self.lists += 1
        self._changed()

    def _take(self, event: WatchEvent) -> None:
        if event.kind == "CONNECTED":
            self._begun = True
            self._changed()
            return
        self._pause_s, self._interrupted = _PAUSE_S, False
        assert self.objects is not None
        key, thing = _key(event.object), event.object
        if event.kind in ("ADDED", "MODIFIED"):
            self.objects[key] = self._keep(thing)
        elif event.kind == "DELETED":
            self.objects.pop(key, None)
        version = (thing.get("metadata") or {}).get("resourceVersion")
        if version:
            self.version = str(version)
        self._changed()

    async def _rest(self, at_least_s: float) -> None:
        """Wait longer each time, up to a bound, and not all routers at once."""
        await asyncio.sleep(max(at_least_s, self._pause_s * (0.5 + 0.5 * self._rng.random())))
        self._pause_s = min(2 * self._pause_s, _PAUSE_S_MAX)


def _key(thing: dict[str, Any]) -> str:
    head = thing.get("metadata") or {}
    return f"{head.get('namespace', '')}/{head.get('name', '')}"
