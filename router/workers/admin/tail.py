"""The tail of several workers as one stream of server-sent events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from aiohttp import web

from router.tasks import spawn, stop
from router.workers.admin.links import WorkerGoneError, WorkerLink

KEEPALIVE_S = 15.0
_QUEUE = 1000
#: How soon the tail includes a worker that has been replaced.
_LOOK_S = 0.5
_ATTACH_S = 2.0
#: Events that may still come from another worker.
_REMEMBERED = 256


async def tail(
    request: web.Request, links: Callable[[], Sequence[WorkerLink]], *, once: bool = False
) -> web.StreamResponse:
    """Follow all workers, also those that come later, until the reader leaves. The head of the answer is sent when the
    workers that serve now are being followed. ``once``: several workers may tell the same; it is passed on once."""
    told: deque[bytes] = deque(maxlen=_REMEMBERED if once else 0)
    follower = _Follower(links, request.rel_url.raw_path_qs)
    keeper = spawn(follower.keep_following(), name="tail of all workers")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    try:
        await follower.attached(_ATTACH_S)
        await response.prepare(request)
        await response.write(b": connected\n\n")
        while True:
            try:
                event = await asyncio.wait_for(follower.events.get(), KEEPALIVE_S)
            except TimeoutError:
                event = b": keep-alive\n\n"
            if event in told:
                continue
            if not event.startswith(b":"):
                told.append(event)
            await response.write(event)
    finally:
        await stop(keeper, *follower.tasks.values())


class _Follower:
    """Follows each worker in a task. ``events`` are of all of them; a reader that is too slow holds the tasks up, and
    the workers then drop and count what it misses."""

    def __init__(self, links: Callable[[], Sequence[WorkerLink]], path: str) -> None:
        self._links = links
        self._path = path
        self._attached: set[WorkerLink] = set()
        self.events: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE)
        self.tasks: dict[WorkerLink, asyncio.Task[None]] = {}

    async def keep_following(self) -> None:
        while True:
            for link in self._links():
                if link not in self.tasks or self.tasks[link].done():
                    name = f"tail of worker {link.index}"
                    self.tasks[link] = spawn(self._follow(link), name=name, expected=(WorkerGoneError,))
            await asyncio.sleep(_LOOK_S)

    async def attached(self, timeout_s: float) -> None:
        """Wait until every worker is being followed, but not longer than ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._attached.issuperset(self._links()):  # noqa: ASYNC110 - a few turns, once
                    await asyncio.sleep(0.005)
        except TimeoutError:
            return

    async def _follow(self, link: WorkerLink) -> None:
        async with link.events(self._path) as stream:
            self._attached.add(link)
            async for event in stream:
                await self.events.put(event)
