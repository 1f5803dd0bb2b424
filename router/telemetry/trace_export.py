"""Sends spans to a collector: OTLP over HTTP, in batches, beside the requests.

A collector that is busy (429, 502, 503, 504) or away is asked again after the time that it says, or after ever longer
pauses, for a minute; then the batch is dropped. ``tracing.QUEUE_MAX`` bounds the requests that wait meanwhile.
https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit

import aiohttp

from router import clock
from router.complaint import Complaint
from router.config import TracingSection, secret
from router.tasks import stop, supervise
from router.telemetry.journal import Record
from router.telemetry.otlp import CONTENT_TYPE, Attributes, read_response, request_bytes, span_bytes
from router.telemetry.spans import Gateway, spans_of
from router.telemetry.tracing import BATCH_MAX, Tracing
from router.wire.tls import ClientTls

_log = logging.getLogger("router.telemetry")

#: The longest that a request which has ended waits for its batch.
_BATCH_S = 1.0
#: Requests that are encoded in one go: about a millisecond.
_AT_ONCE = 4
_TIMEOUT_S = 10.0
_RETRIES_S = 60.0
_PAUSE_S, _PAUSE_S_MAX = 1.0, 15.0
#: What is left at the end of the process is sent once, within this time.
_LAST_S = 3.0
_RESPONSE_BYTES_MAX = 64 * 1024
_BUSY = frozenset({429, 502, 503, 504})
_PATH = "/v1/traces"


@dataclass(frozen=True, slots=True)
class _Failure:
    """A batch was not taken. ``again_s``: the collector says when to come back. ``final``: do not ask again."""

    why: str
    again_s: float | None = None
    final: bool = False


class TraceExporter:
    """Owns the connection to the collector, and the task that sends."""

    def __init__(self, tracing: Tracing, gateway: Gateway, *, now_s: Callable[[], float] = clock.monotonic_s) -> None:
        self._tracing = tracing
        self.gateway = gateway
        self._now_s = now_s
        self._complaint = Complaint()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tls: tuple[str | None, ClientTls] | None = None

    async def start(self) -> None:
        self._task = supervise(self._run, name="export traces")

    async def stop(self) -> None:
        """Send what is left, if the collector takes it within three seconds."""
        self._closing.set()
        self._tracing.news.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_LAST_S)
        await stop(self._task)
        self._tracing.drop("unreachable", sum(1 + len(r.attempts) for r in self._tracing.queue))
        self._tracing.queue.clear()
        if self._session is not None:
            await self._session.close()

    def renew_tls(self) -> None:
        """Read the authorities again, for new connections."""
        self._tls = None

    async def _run(self) -> None:
        news, queue = self._tracing.news, self._tracing.queue
        while True:
            try:
                async with asyncio.timeout(_BATCH_S if self._tracing.on else None):
                    await news.wait()
            except TimeoutError:
                pass
            news.clear()
            while queue:
                batch = [queue.popleft() for _ in range(min(BATCH_MAX, len(queue)))]
                await self._deliver(batch)
            if self._closing.is_set():
                return

    async def _deliver(self, batch: list[Record]) -> None:
        """Send one batch until it is taken, or dropped."""
        section = self._tracing.section
        if section.collector is None:  # switched off meanwhile
            return
        spans, body = await self._encode(batch)
        until_s, pause_s = self._now_s() + _RETRIES_S, _PAUSE_S
        while True:
            failure = await self._send(section, body, spans)
            if failure is None:
                if self._complaint.settled():
                    _log.info("the collector of traces takes spans again")
                return
            wait_s = failure.again_s if failure.again_s is not None else pause_s * (0.75 + random.random() / 2)
            if self._complaint.worth_a_line(failure.why, self._now_s()):
                _log.warning("[tracing] endpoint: the collector %s", failure.why)
            if failure.final or self._closing.is_set() or self._now_s() + wait_s > until_s:
                self._tracing.drop("refused" if failure.final else "unreachable", spans)
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._closing.wait()
            except TimeoutError:
                pass
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    async def _encode(self, batch: list[Record]) -> tuple[int, bytes]:
        """How many spans there are, and the request that holds them."""
        gateway = self.gateway
        encoded: list[bytes] = []
        for number, record in enumerate(batch, 1):
            encoded += [span_bytes(span) for span in spans_of(record, gateway)]
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return len(encoded), request_bytes(resource(gateway), "meridian", gateway.version, encoded)

    async def _send(self, section: TracingSection, body: bytes, spans: int) -> _Failure | None:
        """None: it was taken."""
        headers = {"Content-Type": CONTENT_TYPE} | headers_of(section)
        try:
            if section.compression == "gzip":
                headers["Content-Encoding"] = "gzip"
                body = await asyncio.to_thread(gzip.compress, body, 1)
            async with self._open().post(
                url_of(section.collector or ""),
                data=body,
                headers=headers,
                allow_redirects=False,
                ssl=self._tls_of(section.tls_ca),
            ) as answer:
                said = await answer.content.read(_RESPONSE_BYTES_MAX)
                if 200 <= answer.status < 300:
                    self._taken(said, spans)
                    return None
                again_s = _again_s(answer.headers.get("Retry-After"))
                return _Failure(f"answered {answer.status}", again_s, final=answer.status not in _BUSY)
        except TimeoutError:
            return _Failure(f"did not answer in {_TIMEOUT_S:.0f} s")
        except (aiohttp.ClientError, OSError) as error:
            return _Failure(f"cannot be reached: {type(error).__name__}")
        except ValueError as error:
            return _Failure(f"cannot be asked: {error}", final=True)

    def _taken(self, said: bytes, spans: int) -> None:
        """The collector may have taken only some of them. A body that is not a response of OTLP says nothing."""
        try:
            partial = read_response(said)
        except ValueError:
            self._tracing.sent += spans
            return
        rejected = min(spans, partial.rejected)
        self._tracing.sent += spans - rejected
        self._tracing.drop("rejected", rejected)
        if rejected and self._complaint.worth_a_line(f"rejected {partial.message}", self._now_s()):
            _log.warning("[tracing] endpoint: the collector rejected %d spans: %s", rejected, partial.message[:200])

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": f"meridian-router/{self.gateway.version}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                trust_env=False,
            )
        return self._session

    def _tls_of(self, ca: str | None) -> ClientTls:
        if self._tls is None or self._tls[0] != ca:
            self._tls = (ca, ClientTls(ca=ca))
        return self._tls[1]


def _again_s(retry_after: str | None) -> float | None:
    """The seconds that ``Retry-After`` asks for, as a number or as a date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - clock.wall_s())
    except (ValueError, OverflowError):
        return None


def resource(gateway: Gateway) -> Attributes:
    """Who the spans are of."""
    return {
        "service.name": "meridian-router",
        "service.version": gateway.version,
        "service.instance.id": gateway.name,
        "telemetry.sdk.name": "meridian",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": gateway.version,
    }


def url_of(collector: str) -> str:
    """Where spans are sent: the path of OTLP is added to an address that does not have it."""
    collector = collector.rstrip("/")
    return collector if urlsplit(collector).path.endswith(_PATH) else collector + _PATH


def headers_of(section: TracingSection) -> dict[str, str]:
    """The headers in the environment variable, as OTEL_EXPORTER_OTLP_HEADERS has them: a=b,c=d, percent-encoded."""
    text = secret(section.headers_env) if section.headers_env is not None else None
    pairs = [part.partition("=") for part in (text or "").split(",") if "=" in part]
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs if name.strip()}
