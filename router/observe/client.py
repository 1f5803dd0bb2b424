"""The HTTP client of probes and scrapes: bounded in time and size, one pool that no backend can exhaust.

It sends what real traffic sends (the backend's own URL, Host and key), so that a probe cannot succeed where every
request fails. No redirects, no proxies of the environment, no compression: a page is as large as it looks.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace

import aiohttp

from router import clock
from router.core.types import BackendSpec

#: Engines close idle connections after 5 s.
_KEEPALIVE_S = 4.0
_DNS_TTL_S = 10
_CHUNK_BYTES = 64 * 1024


class Failure(Enum):
    REFUSED = "refused"  # nobody listens there: certain at once
    UNREACHABLE = "unreachable"
    NAME = "name"  # the host name cannot be resolved
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"  # it does not speak HTTP as it should
    TOO_LARGE = "too_large"


class AskFailedError(Exception):
    """No usable answer. The text is for operators and names no address."""

    def __init__(self, failure: Failure, text: str) -> None:
        self.failure = failure
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    #: From sending on an open connection to the head of the answer: one round trip and the engine's own time.
    rtt_s: float
    fresh: bool  # the connection was opened for it


class EngineClient:
    """GETs from engines. Make it inside a running loop; ``close`` it in the end."""

    def __init__(self) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_connection_opened)
        trace.on_connection_reuseconn.append(_connection_reused)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=_DNS_TTL_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "meridian-router"},
            trace_configs=[trace],
            trust_env=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def get(
        self,
        spec: BackendSpec,
        path: str,
        *,
        key: str | None,
        timeout_s: float,
        bytes_max: int,
        feed: Callable[[bytes], None] | None = None,
    ) -> Answer:
        """GET ``path`` of the backend within ``timeout_s``. Raises AskFailedError.

        With ``feed`` the body of a 200 goes there piece by piece and is not kept.
        """
        ready = SimpleNamespace(at_s=clock.monotonic_s(), fresh=False)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            async with self._session.get(
                spec.url + path,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                trace_request_ctx=ready,
            ) as response:
                rtt_s = clock.monotonic_s() - ready.at_s
                chunks: list[bytes] = []
                await _read(response, bytes_max, chunks.append if feed is None or response.status != 200 else feed)
                return Answer(response.status, b"".join(chunks), rtt_s, ready.fresh)
        except AskFailedError:
            raise
        except TimeoutError:
            raise AskFailedError(Failure.TIMEOUT, f"no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as exc:
            raise _failed(exc) from None


async def _connection_opened(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.at_s = clock.monotonic_s()
    context.trace_request_ctx.fresh = True


async def _connection_reused(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.at_s = clock.monotonic_s()
    context.trace_request_ctx.fresh = False


async def _read(response: aiohttp.ClientResponse, bytes_max: int, feed: Callable[[bytes], object]) -> None:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        response.close()
        raise AskFailedError(Failure.PROTOCOL, "the answer is compressed though that was not asked for")
    size = 0
    while chunk := await response.content.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > bytes_max:
            response.close()
            raise AskFailedError(Failure.TOO_LARGE, f"the answer is over {bytes_max} bytes")
        feed(chunk)


def _failed(exc: Exception) -> AskFailedError:
    os_error = getattr(exc, "os_error", exc)
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return AskFailedError(Failure.NAME, "the host name cannot be resolved")
    if isinstance(exc, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError)):
        return AskFailedError(Failure.TLS, f"TLS failed: {type(exc).__name__}")
    if isinstance(os_error, ConnectionRefusedError):
        return AskFailedError(Failure.REFUSED, "connection refused")
    if isinstance(exc, aiohttp.ClientConnectorError):
        return AskFailedError(Failure.UNREACHABLE, f"no connection: {getattr(os_error, 'strerror', None) or 'unknown'}")
    if isinstance(exc, (ConnectionError, aiohttp.ServerDisconnectedError)):
        return AskFailedError(Failure.PROTOCOL, "the connection was closed before an answer")
    return AskFailedError(Failure.PROTOCOL, f"no valid HTTP answer: {type(exc).__name__}")
