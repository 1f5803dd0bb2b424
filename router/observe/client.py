"""The HTTP client that asks engines what no client has asked: bounded in time and size, one pool that no backend can
exhaust.

It sends what real traffic sends (the backend's own URL, Host and key), so that a probe cannot succeed where every
request fails. No redirects, no proxies of the environment, no compression: a page is as large as it looks.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp

from router import clock
from router.core.traits import IDLE_LIMIT_S
from router.core.types import BackendSpec
from router.deadline import within
from router.errors import ConfigError
from router.wire.names import Address, Names
from router.wire.sockets import tuned
from router.wire.tls import ClientTls, tls_of
from router.wire.trouble import Kind, trouble_of

#: A probe waits for the first look-up of a name, up to its own time limit.
_NAME_PATIENCE_S = 60.0
_CHUNK_BYTES = 64 * 1024
_NO_TIMEOUT = aiohttp.ClientTimeout()


class Failure(Enum):
    OWN = "own"  # this process or machine has run out of something: the backend was not asked
    REFUSED = "refused"  # nobody listens there: certain at once
    UNREACHABLE = "unreachable"
    NAME = "name"  # the host name cannot be resolved
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"  # the answer is not valid HTTP
    TOO_LARGE = "too_large"


class AskFailedError(Exception):
    """No usable answer. The text is for operators and names no address."""

    def __init__(self, failure: Failure, text: str) -> None:
        self.failure = failure
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    status: int
    body: bytes
    #: From sending on an open connection to the head of the answer: one round trip and the engine's own time.
    rtt_s: float
    fresh: bool  # the connection was opened for it
    content_type: str = ""
    date: str = ""  # by the backend's clock, as HTTP writes it


class EngineClient:
    """Make it inside a running loop; ``close`` it in the end."""

    def __init__(self, names: Names | None = None) -> None:
        """``names``: those that requests use, too."""
        self._names = names or Names(clock.monotonic_s)
        self._tls: dict[str, tuple[BackendSpec, ClientTls | None]] = {}
        self._session = self._open()
        #: A POST is not sent twice, so never on a connection that the engine may be closing.
        self._posts = self._open(force_close=True)

    def _open(self, *, force_close: bool = False) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_connection_opened)
        trace.on_connection_reuseconn.append(_connection_reused)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=None if force_close else IDLE_LIMIT_S,
                force_close=force_close,
                resolver=_Resolver(self._names),
                use_dns_cache=False,
                socket_factory=lambda found: tuned(*found[:3]),
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "meridian-router"},
            trace_configs=[trace],
            trust_env=False,
        )

    async def close(self) -> None:
        await self._session.close()
        await self._posts.close()

    def renew_tls(self) -> None:
        """Read the TLS files again, for new connections."""
        self._tls.clear()

    def _tls_of(self, spec: BackendSpec) -> ClientTls | None:
        known = self._tls.get(spec.name)
        if known is None or known[0] != spec:
            known = self._tls[spec.name] = (spec, tls_of(spec))
        return known[1]

    async def ask(
        self,
        spec: BackendSpec,
        path: str,
        *,
        key: str | None,
        timeout_s: float,
        bytes_max: int,
        feed: Callable[[bytes], None] | None = None,
        body: bytes | None = None,
    ) -> ProbeAnswer:
        """GET ``path`` of the backend, or POST ``body`` (JSON) to it, within ``timeout_s``. Raises AskFailedError.

        With ``feed`` the body of a 200 goes there piece by piece and is not kept.
        """
        ready = SimpleNamespace(at_s=clock.monotonic_s(), fresh=False)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            tls = self._tls_of(spec)
            session, method = (self._session, "GET") if body is None else (self._posts, "POST")
            async with (
                within(timeout_s, fairness=1.0),
                session.request(
                    method,
                    spec.url + path,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=_NO_TIMEOUT,  # it is ours: aiohttp's would be over before what has come is read
                    trace_request_ctx=ready,
                    ssl=tls if tls is not None else True,
                    server_hostname=spec.tls_server_name,
                ) as response,
            ):
                rtt_s = clock.monotonic_s() - ready.at_s
                chunks: list[bytes] = []
                await _read(response, bytes_max, chunks.append if feed is None or response.status != 200 else feed)
                told = response.headers
                return ProbeAnswer(
                    response.status,
                    b"".join(chunks),
                    rtt_s,
                    ready.fresh,
                    told.get("Content-Type", ""),
                    told.get("Date", ""),
                )
        except AskFailedError:
            raise
        except TimeoutError:
            if not self._names.of(urlsplit(spec.url).hostname or "").addresses:
                raise AskFailedError(Failure.NAME, "the host name cannot be resolved: no name server answers") from None
            raise AskFailedError(Failure.TIMEOUT, f"no answer within {timeout_s:g} s") from None
        except ConfigError as exc:
            raise AskFailedError(Failure.TLS, f"TLS failed: {exc.problems[0]}") from None
        except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as exc:
            raise _failed(exc) from None


class _Resolver(aiohttp.abc.AbstractResolver):
    """The names that requests use, in the order in which they try addresses."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        name = self._names.of(host)
        name.sweep()
        await name.resolve(_NAME_PATIENCE_S)
        return [_result(host, port, address) for address in name.in_order()]

    async def close(self) -> None:
        """Close every connection."""


def _result(host: str, port: int, address: Address) -> aiohttp.abc.ResolveResult:
    scope = f"%{address.more[1]}" if len(address.more) > 1 and address.more[1] else ""
    return {
        "hostname": host,
        "host": address.host + scope,
        "port": port,
        "family": address.family,
        "proto": 0,
        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    }


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
        raise AskFailedError(Failure.PROTOCOL, "the answer is compressed, which was not asked for")
    size = 0
    while chunk := await response.content.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > bytes_max:
            response.close()
            raise AskFailedError(Failure.TOO_LARGE, f"the answer is over {bytes_max} bytes")
        feed(chunk)


_FAILURES = {
    Kind.OWN: Failure.OWN,
    Kind.REFUSED: Failure.REFUSED,
    Kind.NAME: Failure.NAME,
    Kind.TLS: Failure.TLS,
    Kind.TIMEOUT: Failure.UNREACHABLE,
    Kind.UNREACHABLE: Failure.UNREACHABLE,
}


def _failed(exc: Exception) -> AskFailedError:
    trouble = trouble_of(exc)
    if trouble.kind is Kind.CLOSED or isinstance(exc, aiohttp.ServerDisconnectedError):
        return AskFailedError(Failure.PROTOCOL, "the connection was closed before an answer")
    if isinstance(exc, (OSError, aiohttp.ClientConnectorError)):
        return AskFailedError(_FAILURES[trouble.kind], trouble.text)
    return AskFailedError(Failure.PROTOCOL, f"no valid HTTP answer: {type(exc).__name__}")
