"""Sends alerts to the webhook of ``[alerts]``, signed as Standard Webhooks has it (https://www.standardwebhooks.com).

One alert at a time, in their order, each with the same id however often it is sent. A receiver that does not answer 2xx
is asked again, ever more rarely, and after ATTEMPTS_MAX attempts the alert is given up. No request waits for it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import logging
import random
from asyncio import Task
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

import aiohttp

from router import clock
from router.config import AlertsSection, secret, signing_key
from router.tasks import stop, supervise

_log = logging.getLogger("router.control")

ATTEMPTS_MAX = 10
QUEUE_MAX = 1000
_TIMEOUT_S = 10.0
_PAUSE_S, _PAUSE_S_MAX = 0.5, 120.0
#: When the router stops, what waits has this long.
_LAST_S = 2.0


class Alert(NamedTuple):
    """``id`` is its own among all routers: a receiver that gets it twice knows it by that."""

    id: str
    body: bytes
    about: str  # for the log


def signature(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The header ``webhook-signature``: HMAC-SHA256 over id, time and body."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp_s, body)
    digest = hmac.digest(key, signed, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


class Webhook:
    """``settings`` are read for each attempt. ``results`` counts by what became of messages."""

    def __init__(
        self,
        settings: Callable[[], AlertsSection],
        *,
        wall_s: Callable[[], float] = clock.wall_s,
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._settings = settings
        self._wall_s = wall_s
        self._pause_s = pause_s
        self._waiting: deque[Alert] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: Task[None] | None = None
        self.results: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Webhook {len(self._waiting)} wait>"

    def start(self) -> None:
        self._task = supervise(self._run, name="webhook")

    async def stop(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_S):
                await self._idle.wait()
        await stop(self._task)
        for message in self._waiting:
            self._over(message, "given_up", "the router stops")

    def send(self, message: Alert) -> None:
        """Never blocks, never raises. Nothing happens where no webhook is configured."""
        if self._settings().webhook is None:
            return
        if len(self._waiting) >= QUEUE_MAX:
            self._over(message, "dropped", f"{QUEUE_MAX} others wait")
            return
        self._waiting.append(message)
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        async with aiohttp.ClientSession(
            headers={"User-Agent": "meridian-router", "Content-Type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        ) as session:
            while True:
                while self._waiting:
                    await self._deliver(session, self._waiting[0])
                    self._waiting.popleft()
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()

    async def _deliver(self, session: aiohttp.ClientSession, message: Alert) -> None:
        why = ""
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                self.results["retried"] += 1
                pause_s = min(_PAUSE_S_MAX, self._pause_s * 2 ** (attempt - 1))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            settings = self._settings()
            if settings.webhook is None:
                self._over(message, "dropped", "there is no webhook any more")
                return
            why = await self._attempt(session, settings.webhook, settings, message)
            if not why:
                self.results["delivered"] += 1
                return
        self._over(message, "given_up", f"after {ATTEMPTS_MAX} attempts: {why}")

    async def _attempt(self, session: aiohttp.ClientSession, url: str, settings: AlertsSection, message: Alert) -> str:
        """Empty: it was taken. Else why not."""
        text = secret(settings.secret_env) if settings.secret_env is not None else None
        key = signing_key(text) if text is not None else None
        if key is None:
            return f"the environment variable {settings.secret_env} is not set, or holds no secret"
        timestamp_s = int(self._wall_s())
        headers = {
            "webhook-id": message.id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": signature(key, message.id, timestamp_s, message.body),
        }
        try:
            async with session.post(url, data=message.body, headers=headers, allow_redirects=False) as response:
                if 200 <= response.status < 300:
                    return ""
                return f"it answered {response.status}"
        except TimeoutError:
            return f"no answer within {_TIMEOUT_S:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"it cannot be called: {type(error).__name__}"

    def _over(self, message: Alert, result: str, why: str) -> None:
        self.results[result] += 1
        words = result.replace("_", " ")
        _log.error("the alert %s (%s) for the webhook is %s: %s", message.id, message.about, words, why)
