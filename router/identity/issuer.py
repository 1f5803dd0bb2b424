"""The issuer's public keys: fetched in the background, kept while the issuer is away, and asked for again.

They are fetched at the start, again and again while the router runs, and when a JWT comes that was signed with a key
that is not known. No request waits for that for longer than ``WAIT_S``, and whoever invents keys does not make the
router ask more often than ``BURST`` times at once and every ``EVERY_S`` after that.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from router.complaint import Complaint
from router.config import JwtSection
from router.tasks import stop, supervise
from router.words import plural

if TYPE_CHECKING:
    from router.identity.jwks import KeySet

#: The longest that a request waits for keys.
WAIT_S = 1.0
BURST = 5
EVERY_S = 10.0
_FETCH_S = 5.0
_RETRY_S = 1.0
_RETRY_S_MAX = 15.0
#: How often a file is read.
_FILE_S = 2.0

_log = logging.getLogger("router.identity")


class Issuer:
    """Owns the key set of ``[jwt] jwks``. Nothing is fetched while there is none.

    keys       those in force; None: none were ever read
    problem    why the last fetch failed; None if it did not
    """

    def __init__(self, *, monotonic_s: Callable[[], float]) -> None:
        self.keys: KeySet | None = None
        self.problem: str | None = None
        self.changes = 0  # of the keys, so far
        self._monotonic_s = monotonic_s
        self._section = JwtSection()
        self._document = b""
        self._fetched_s = 0.0
        self._complaint = Complaint()
        self._wanted = asyncio.Event()
        self._news: asyncio.Future[None] | None = None
        self._may = float(BURST)  # how often it may be asked at once
        self._filled_s = monotonic_s()
        self._pause_s = _RETRY_S
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Issuer {self.keys!r}{f' {self.problem}' if self.problem else ''}>"

    @property
    def age_s(self) -> float | None:
        """Since the keys were last read."""
        return None if self.keys is None else self._monotonic_s() - self._fetched_s

    def apply(self, section: JwtSection) -> None:
        """Go by this section from now on. Keys that came from elsewhere are forgotten."""
        if (section.jwks, section.tls_ca) != (self._section.jwks, self._section.tls_ca):
            self.keys, self.problem, self._document = None, None, b""
            self.changes += 1
        self._section = section
        self._wanted.set()

    async def start(self) -> None:
        self._task = supervise(self._run, name="keys of the issuer")

    async def stop(self) -> None:
        await stop(self._task)
        self._tell()

    def seek(self) -> asyncio.Future[None] | None:
        """Ask for the keys again. The future is done when they are here, when they cannot be had, or after ``WAIT_S``.
        None: it was asked for too often."""
        if self._news is None:
            if not self._may_ask():
                return None
            self._news = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(WAIT_S, self._tell, self._news)
            self._wanted.set()
        return self._news

    def _may_ask(self) -> bool:
        now_s = self._monotonic_s()
        self._may = min(float(BURST), self._may + (now_s - self._filled_s) / EVERY_S)
        self._filled_s = now_s
        if self._may < 1.0:
            return False
        self._may -= 1.0
        return True

    def _tell(self, news: asyncio.Future[None] | None = None) -> None:
        """Nobody waits any longer. ``news``: only for this."""
        waiting = self._news
        if waiting is None or news not in (None, waiting):
            return
        self._news = None
        if not waiting.done():
            waiting.set_result(None)

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            waiting = self._news  # those who come during a fetch have seen newer keys than it may bring
            if self._section.jwks is not None:
                first = self.keys is None
                await self._refresh(self._section)
                if first or waiting is not None:
                    self._tell(None if first else waiting)
            try:
                async with asyncio.timeout(self._until_next_s()):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    def _until_next_s(self) -> float | None:
        if self._section.jwks is None:
            return None
        if self.problem is not None:
            pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _RETRY_S_MAX)
            return pause_s * (0.75 + random.random() / 2)
        self._pause_s = _RETRY_S
        refresh_s = min(_FILE_S, self._section.refresh) if self._is_file else self._section.refresh
        return refresh_s * (0.9 + random.random() / 5)

    @property
    def _is_file(self) -> bool:
        return "://" not in (self._section.jwks or "")

    async def _refresh(self, section: JwtSection) -> None:
        from router.identity.jwks import read_keys  # imports the library, which few routers need

        place = section.jwks or ""
        try:
            async with asyncio.timeout(_FETCH_S):
                document = await (asyncio.to_thread(_read, place) if self._is_file else _fetch(section))
            keys = self.keys if document == self._document and self.keys is not None else read_keys(document)
        except (OSError, ValueError, TimeoutError, _FetchError) as error:
            self._failed(section, _reason(error))
            return
        if section is not self._section:  # another one is in force by now
            return
        self._fetched_s = self._monotonic_s()
        if keys is not self.keys:
            self.keys, self._document = keys, document
            self.changes += 1
            skipped = f", {len(keys.skipped)} not used: one {keys.skipped[0]}" if keys.skipped else ""
            _log.info("the issuer of JWTs has %s%s", plural(len(keys), "key"), skipped)
        elif self.problem is not None:
            _log.info("the keys of the issuer can be read again")
        self.problem = None
        self._complaint.settled()

    def _failed(self, section: JwtSection, why: str) -> None:
        if section is not self._section:
            return
        self.problem = why
        if self._complaint.worth_a_line(why, self._monotonic_s()):
            known = self.keys
            kept = "no JWT can be checked" if known is None else f"it goes on with {plural(len(known), 'known key')}"
            _log.warning("[jwt] jwks %s: %s; %s", section.jwks, why, kept)


class _FetchError(Exception):
    """The text is for operators."""


def _read(path: str) -> bytes:
    from router.identity.jwks import DOCUMENT_BYTES_MAX

    with Path(path).open("rb") as file:
        return file.read(DOCUMENT_BYTES_MAX + 1)


async def _fetch(section: JwtSection) -> bytes:
    import aiohttp

    from router.identity.jwks import DOCUMENT_BYTES_MAX

    secured: ssl.SSLContext | bool = True
    if section.tls_ca is not None:
        secured = await asyncio.to_thread(ssl.create_default_context, cafile=section.tls_ca)
    try:
        async with (
            aiohttp.ClientSession(headers={"Accept": "application/json", "User-Agent": "meridian-router"}) as session,
            session.get(section.jwks or "", allow_redirects=False, ssl=secured) as answer,
        ):
            if answer.status != 200:
                raise _FetchError(f"answered {answer.status}")
            return await answer.content.read(DOCUMENT_BYTES_MAX + 1)
    except aiohttp.ClientError as error:
        raise _FetchError(f"cannot be fetched: {error}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"did not answer in {_FETCH_S:.0f} s"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error)
