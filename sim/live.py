"""The pure engine on the event loop's clock: requests wait here for their tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

from sim.engine import Engine, Job, Phase
from sim.profiles import Profile


class Feed:
    """The jobs of one request. Wait, look at what there is, wait again."""

    def __init__(self, jobs: Sequence[Job], live: LiveEngine) -> None:
        self.jobs = tuple(jobs)
        self._live = live
        self._seen = 0
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Until a job has more tokens or has ended since the last call, or somebody calls :meth:`wake`."""
        if self._news():
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def ended(self) -> bool:
        return all(job.phase in (Phase.DONE, Phase.ABORTED) for job in self.jobs)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def look(self) -> None:
        """Wake who waits, if there is news."""
        if self._waiter is not None and not self._waiter.done() and self._news():
            self._waiter.set_result(None)

    def _news(self) -> bool:
        engine, now_s = self._live.engine, self._live.now_s()
        progress = sum(engine.generated(job, now_s) + (job.phase is Phase.DONE) for job in self.jobs)
        news = progress != self._seen
        self._seen = progress
        return news


class LiveEngine:
    """Runs an :class:`Engine` in real time."""

    def __init__(self, profile: Profile) -> None:
        self.engine = Engine(profile, stretch_iterations=1)
        self._loop = asyncio.get_running_loop()
        self._feeds: set[Feed] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped_s = 0.0  # how long it has been frozen in all
        self._frozen_at_s: float | None = None
        self.thawed = asyncio.Event()
        self.thawed.set()

    def now_s(self) -> float:
        """The engine's time: the loop's, without what it spent frozen."""
        if self._frozen_at_s is not None:
            return self._frozen_at_s - self._stopped_s
        return self._loop.time() - self._stopped_s

    def submit(self, jobs: Sequence[Job]) -> Feed:
        self._advance()
        for job in jobs:
            self.engine.submit(job, self.now_s())
        feed = Feed(jobs, self)
        self._feeds.add(feed)
        self._arm()
        return feed

    def close(self, feed: Feed) -> list[Job]:
        """The request is over: abort what has not ended. Those jobs are returned."""
        self._feeds.discard(feed)
        self._advance()
        live = [job for job in feed.jobs if job.phase not in (Phase.DONE, Phase.ABORTED)]
        for job in live:
            self.engine.abort(job, self.now_s())
        self._arm()
        return live

    @property
    def frozen(self) -> bool:
        return self._frozen_at_s is not None

    def freeze(self, frozen: bool) -> None:
        if frozen and self._frozen_at_s is None:
            self._advance()
            self._frozen_at_s = self._loop.time()
            self.thawed.clear()
        elif not frozen and self._frozen_at_s is not None:
            self._stopped_s += self._loop.time() - self._frozen_at_s
            self._frozen_at_s = None
            self.thawed.set()
        self._arm()

    def set_slowdown(self, factor: float) -> None:
        self._advance()
        self.engine.set_slowdown(factor, self.now_s())
        self._arm()

    def _advance(self) -> None:
        self.engine.advance(self.now_s())
        for feed in self._feeds:
            feed.look()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_s = self.engine.next_event_s()
        if next_s < inf and self._frozen_at_s is None:
            self._timer = self._loop.call_at(next_s + self._stopped_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._advance()
        self._arm()
