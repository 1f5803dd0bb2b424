"""Asks the ``notice_url`` of each backend that has one whether its machine is to go away.

An answer that does not come, or that nobody understands, changes nothing: a machine that has said that it goes is not
expected to say it to the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import aiohttp

from router import clock
from router.core.roll import Leaves
from router.discovery.spot_words import HEADERS, Word, read_notice
from router.tasks import stop, supervise

INTERVAL_S = 2.0
_ANSWER_S = 1.5
_BYTES_MAX = 64 * 1024
_AT_ONCE = 64


class Spot:
    """``tell`` is called with the name of a backend when what its machine says has changed; None: it stays."""

    def __init__(self, tell: Callable[[str, Leaves | None], None], *, interval_s: float = INTERVAL_S) -> None:
        self._tell = tell
        self._interval_s = interval_s
        self._urls: dict[str, str] = {}
        self._said: dict[str, float] = {}  # until when, by the monotonic clock
        self._task: asyncio.Task[None] | None = None
        self._running = False

    def watch(self, urls: Mapping[str, str]) -> None:
        """Ask for these backends. Words about others, or about one that has another address now, are over."""
        if urls == self._urls:
            return
        over = [name for name in self._said if urls.get(name) != self._urls.get(name)]
        self._urls = dict(urls)
        for name in over:
            del self._said[name]
            self._tell(name, None)
        self._begin()

    def start(self) -> None:
        self._running = True
        self._begin()

    def _begin(self) -> None:
        if self._running and self._urls and self._task is None:
            self._task = supervise(self._loop, name="notices of machines")

    async def stop(self) -> None:
        self._running = False
        await stop(self._task)

    async def _loop(self) -> None:
        connector = aiohttp.TCPConnector(limit=_AT_ONCE, force_close=True)
        async with aiohttp.ClientSession(connector=connector, headers=HEADERS, trust_env=False) as session:
            while True:
                await asyncio.gather(*(self._ask(session, name, url) for name, url in list(self._urls.items())))
                await asyncio.sleep(self._interval_s)

    async def _ask(self, session: aiohttp.ClientSession, name: str, url: str) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_S, sock_read=_ANSWER_S)
        try:
            async with session.get(url, allow_redirects=False, timeout=timeout) as response:
                body = await response.content.read(_BYTES_MAX)
                status = response.status
        except (aiohttp.ClientError, OSError):
            return
        if self._urls.get(name) == url:
            self._heard(name, read_notice(status, body, clock.wall_s()))

    def _heard(self, name: str, word: float | Word) -> None:
        if word is Word.UNKNOWN:
            return
        if isinstance(word, Word):
            if self._said.pop(name, None) is not None:
                self._tell(name, None)
            return
        until_s = clock.monotonic_s() + word
        before = self._said.get(name)
        if before is None or until_s < before - 1.0:
            self._said[name] = until_s
            self._tell(name, Leaves(until_s, "its machine"))
