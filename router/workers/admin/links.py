"""How the process in front of several workers asks one of them: HTTP over the worker's private unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import orjson
from yarl import URL

from router.config import Config
from router.control.guard import ADMIN_HEADER
from router.control.reload import Refused
from router.control.worker_routes import Adoption
from router.store.insist import WAIT_S
from router.telemetry.minutes import Spent
from router.telemetry.stats import Window

#: A worker that does not answer an operator within this time is left out of the answer. It may wait for the store.
ASK_TIMEOUT_S = WAIT_S + 2.0
_HOST = "http://localhost"


class WorkerGoneError(Exception):
    """The worker has ended, or is stuck."""


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    status: int
    body: bytes
    content_type: str
    retry_after: str | None = None

    @property
    def document(self) -> Any:
        return orjson.loads(self.body)


class WorkerLink:
    """The admin API of one worker. Make it inside a running loop; ``close`` it in the end."""

    def __init__(self, index: int, path: str) -> None:
        self.index = index
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path, limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S),
        )

    def __repr__(self) -> str:
        return f"<WorkerLink {self.index}>"

    async def close(self) -> None:
        await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> WorkerAnswer:
        """``path`` with its query, encoded. Raises WorkerGoneError."""
        self._check()
        url = URL(_HOST + path, encoded=True)
        try:
            sent = {"Content-Type": content_type, ADMIN_HEADER: "1", **(headers or {})}
            async with self._session.request(method, url, data=body, headers=sent, allow_redirects=False) as response:
                return WorkerAnswer(
                    response.status,
                    await response.read(),
                    response.content_type,
                    response.headers.get("Retry-After"),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise WorkerGoneError(f"worker {self.index}: {error!r}") from None

    async def window(self, window_s: float) -> Window:
        """The worker's counts of the last seconds. Raises WorkerGoneError."""
        answer = await self.ask("GET", f"/worker/v1/window?window_s={window_s:g}")
        return msgspec.msgpack.decode(answer.body, type=Window)

    async def minutes(self, since_s: float, by: Sequence[str]) -> dict[tuple[str, ...], Spent]:
        """The worker's counts by the minute. Raises WorkerGoneError."""
        answer = await self.ask("GET", f"/worker/v1/minutes?since_s={since_s:g}&by={','.join(by)}")
        return msgspec.msgpack.decode(answer.body, type=dict[tuple[str, ...], Spent])

    async def note(self, told: Mapping[str, str | None]) -> None:
        """Write an event of the process in front into the history. Raises WorkerGoneError."""
        await self.ask("POST", "/worker/v1/event", msgspec.json.encode(told))

    async def refused(self, refused: Refused | None) -> None:
        """Let it know the file that was refused last, or that none is. Raises WorkerGoneError."""
        await self.ask("PUT", "/worker/v1/refused", msgspec.json.encode(refused))

    async def adopt(self, config: Config, generation: int) -> str | None:
        """Put a configuration in force there. Returns None, or why it was refused. Raises WorkerGoneError."""
        answer = await self.ask("PUT", "/worker/v1/config", msgspec.json.encode(Adoption(config, generation)))
        return None if answer.status == 200 else "; ".join(answer.document["error"].get("problems") or ["it failed"])

    @asynccontextmanager
    async def events(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The server-sent events of ``path``, without comments. Raises WorkerGoneError."""
        self._check()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ASK_TIMEOUT_S)
        try:
            async with self._session.get(URL(_HOST + path, encoded=True), timeout=timeout) as response:
                yield _events(response.content)
        except (aiohttp.ClientError, OSError) as error:
            raise WorkerGoneError(f"worker {self.index}: {error!r}") from None

    def _check(self) -> None:
        if self._session.closed:
            raise WorkerGoneError(f"worker {self.index} has ended")


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    while (block := await content.readuntil(b"\n\n")).endswith(b"\n\n"):
        if not block.startswith(b":"):
            yield block
