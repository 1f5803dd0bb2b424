"""The API of a Kubernetes cluster: lists and watches, without a client library.

The token of the service account is read from its file for every request, for the cluster renews it; so are the
authorities when their file has changed.
"""

from __future__ import annotations

import json
import os
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp

from router.config import Source
from router.wire.sockets import tuned

#: Where a pod finds what it needs to ask its own cluster.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
_LIST_S = 30.0
_CONNECT_S = 5.0
#: A watch is asked to end after about this long, so that it is spread over the servers of the API again.
_WATCH_S = 280.0
#: What the answers of one list may hold, and one event of a watch.
_PAGE = 500
_BYTES_MAX = 256 * 1024 * 1024
_EVENT_BYTES_MAX = 16 * 1024 * 1024
_WHY_BYTES = 64 * 1024


class ClusterError(Exception):
    """The API did not answer, or refused. The text is for operators and says what to change where that is known."""

    def __init__(self, text: str, *, retry_after_s: float = 0.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(text)


class GoneError(Exception):
    """The API does not remember that far back, or has never been there: list again."""


class Listed(NamedTuple):
    """``version`` is where a watch begins."""

    objects: list[dict[str, Any]]
    version: str


class WatchEvent(NamedTuple):
    """``kind``: ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    object: dict[str, Any]


class Resource(NamedTuple):
    """One kind of object: ``path`` of its list, and the words for it. ``selector``: labels."""

    path: str
    plural: str  # as RBAC names it
    group: str = ""
    namespace: str | None = None
    selector: str = ""

    def __str__(self) -> str:
        place = f" in the namespace {self.namespace}" if self.namespace else ""
        return f"{self.plural}{'.' if self.group else ''}{self.group}{place}"


class Cluster:
    """``async with`` one. Raises ClusterError if it is not known how to ask the API."""

    def __init__(self, source: Source) -> None:
        own = source.api is None
        if own and _HOST not in os.environ:
            raise ClusterError("this router does not run in a cluster: name its API with api")
        host = os.environ.get(_HOST, "")
        host = f"[{host}]" if ":" in host else host
        self.url = (source.api or f"https://{host}:{os.environ.get(_PORT, '443')}").rstrip("/")
        self._token_file = source.token_file or (str(ACCOUNT / "token") if own else None)
        self._ca_file = source.ca_file or (str(ACCOUNT / "ca.crt") if own else None)
        self.namespace = source.namespace or _own_namespace()
        self._tls: tuple[object, ssl.SSLContext] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Accept": "application/json", "User-Agent": "meridian-router"},
            cookie_jar=aiohttp.DummyCookieJar(),
            # A watch is silent for long: without keepalive, an API whose machine has died is missed only when it ends.
            connector=aiohttp.TCPConnector(socket_factory=lambda found: tuned(*found[:3])),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def list(self, resource: Resource) -> Listed:
        """All objects, page by page. Raises ClusterError and GoneError."""
        objects: list[dict[str, Any]] = []
        query = {"limit": str(_PAGE)}
        size = 0
        while True:
            timeout = aiohttp.ClientTimeout(total=_LIST_S, sock_connect=_CONNECT_S)
            async with _Asking(self, resource, query, timeout) as response:
                text = await response.text()
            size += len(text)
            page = _document(text)
            head = page.get("metadata") or {}
            objects += [item for item in page.get("items") or () if isinstance(item, dict)]
            if not head.get("continue"):
                return Listed(objects, str(head.get("resourceVersion", "")))
            if size > _BYTES_MAX:
                raise ClusterError(f"the list of {resource} is over {_BYTES_MAX // 2**20} MiB")
            query["continue"] = str(head["continue"])

    async def watch(self, resource: Resource, version: str) -> AsyncIterator[WatchEvent]:
        """Changes after ``version``, until the API or the network ends it. Raises ClusterError and GoneError."""
        seconds = int(_WATCH_S * (0.8 + 0.2 * random.random()))
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        query["timeoutSeconds"] = str(seconds)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=seconds + 15.0)
        async with _Asking(self, resource, query, timeout) as response:
            yield WatchEvent("CONNECTED", {})
            async for line in _lines(response):
                event = _document(line)
                kind, thing = str(event.get("type")), event.get("object")
                if not isinstance(thing, dict):
                    raise ClusterError(f"a watch of {resource} says what nobody understands")
                if kind == "ERROR":
                    if _is_gone(thing.get("code"), str(thing.get("message"))):
                        raise GoneError
                    raise ClusterError(f"the watch of {resource} failed: {thing.get('message', 'no reason given')}")
                yield WatchEvent(kind, thing)

    async def ask(
        self, resource: Resource, query: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """The answer, whose status is 200. Raises ClusterError and GoneError."""
        assert self._session is not None, "async with comes first"
        query = dict(query)
        if resource.selector:
            query["labelSelector"] = resource.selector
        response = await self._session.get(
            self.url + resource.path,
            params=query,
            headers=self._proof(),
            timeout=timeout,
            ssl=self._authorities(),
            allow_redirects=False,
        )
        if response.status == 200:
            return response
        try:
            raise await _refusal(response, resource)
        finally:
            response.close()

    def _proof(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            token = Path(self._token_file).read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not a token"
            raise ClusterError(f"the token {self._token_file} cannot be read: {why}") from None
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _authorities(self) -> ssl.SSLContext | bool:
        if self._ca_file is None or not self.url.startswith("https"):
            return True
        try:
            found = os.stat(self._ca_file)
            known = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._tls is None or self._tls[0] != known:
                self._tls = known, ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ClusterError(f"the authorities {self._ca_file} cannot be read: {error.strerror or error}") from None
        return self._tls[1]


class _Asking:
    """An answer in an ``async with``; troubles of the network become ClusterErrors."""

    def __init__(
        self, cluster: Cluster, resource: Resource, query: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> None:
        self._cluster = cluster
        self._resource = resource
        self._query = query
        self._timeout = timeout
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            self._response = await self._cluster.ask(self._resource, self._query, self._timeout)
        except (aiohttp.ClientError, OSError) as error:
            raise self._trouble(error) from None
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            self._response.close()
        if isinstance(error, (aiohttp.ClientError, OSError, UnicodeDecodeError)):
            raise self._trouble(error) from None

    def _trouble(self, error: BaseException) -> ClusterError:
        if isinstance(error, TimeoutError):
            return ClusterError(f"the API at {self._cluster.url} does not answer")
        return ClusterError(f"the API at {self._cluster.url} cannot be reached: {str(error) or type(error).__name__}")


def _own_namespace() -> str:
    try:
        return (ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or "default"
    except (OSError, ValueError):
        return "default"


async def _refusal(response: aiohttp.ClientResponse, resource: Resource) -> ClusterError | GoneError:
    """The meaning of an answer that is not 200."""
    status = response.status
    try:
        said = str(json.loads(await response.content.read(_WHY_BYTES)).get("message") or "")
    except (ValueError, AttributeError):
        said = ""
    if _is_gone(status, said):
        return GoneError()
    why = f": {said}" if said else ""
    if status == 403:
        return ClusterError(
            f"403: the service account may not read {resource}; its role needs get, list and watch there{why}"
        )
    if status == 401:
        return ClusterError(f"401: the API does not accept the token{why}")
    if status == 404:
        return ClusterError(f"404: the API does not know {resource}{why}")
    after = response.headers.get("Retry-After", "")
    return ClusterError(f"the API answers {status}{why}", retry_after_s=float(after) if after.isdigit() else 0.0)


def _is_gone(code: object, said: str) -> bool:
    """A cluster that was restored from a backup counts from an earlier version on, and never reaches the one that a
    watch names."""
    return code == 410 or (code == 504 and "Too large resource version" in said)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The lines of an answer as they come, of any length within reason."""
    rest = bytearray()
    async for piece in response.content.iter_any():
        rest += piece
        while (end := rest.find(b"\n")) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            if line.strip():
                yield line
        if len(rest) > _EVENT_BYTES_MAX:
            raise ClusterError(f"an event is over {_EVENT_BYTES_MAX // 2**20} MiB")


def _document(text: str | bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        raise ClusterError("the API does not answer in JSON") from None
    if not isinstance(document, dict):
        raise ClusterError("the API does not answer with an object")
    return document
