"""The API of a Kubernetes cluster as far as discovery asks it: lists by page and label, watches with bookmarks that are
taken up again, 410 for what is forgotten, 401 and 403. On loopback, without a cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_KINDS = {"endpointslices": "EndpointSlice", "services": "Service", "nodes": "Node"}


def slice_of(
    name: str,
    *entries: dict[str, Any],
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    ports: list[dict[str, Any]] | None = None,
    service: str = "vllm",
    family: str = "IPv4",
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "ml",
            "labels": {"app": "vllm", "kubernetes.io/service-name": service, **(labels or {})},
            "annotations": annotations or {},
        },
        "addressType": family,
        "endpoints": list(entries),
        "ports": ports if ports is not None else [{"name": "http", "port": 8000, "protocol": "TCP"}],
    }


def pod(
    name: str, address: str = "127.0.0.1", *, ready: bool | None = True, terminating: bool | None = None, node: str = ""
) -> dict[str, Any]:
    """One address of a slice."""
    conditions = {"ready": ready, "serving": ready, "terminating": terminating}
    entry: dict[str, Any] = {
        "addresses": [address],
        "conditions": {k: v for k, v in conditions.items() if v is not None},
        "targetRef": {"kind": "Pod", "name": name},
    }
    return entry | ({"nodeName": node} if node else {})


@dataclass
class ClusterApi:
    """``put`` and ``delete`` objects; the rest is how the API behaves."""

    token: str | None = None  # None: everybody may ask
    forbidden: set[str] = field(default_factory=set)
    page: int = 500
    bookmark_s: float = 0.1
    down: bool = False
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # plural, query
    url: str = ""

    def __post_init__(self) -> None:
        self.version = 100
        self._objects: dict[str, dict[str, dict[str, Any]]] = {plural: {} for plural in _KINDS}
        self._history: dict[str, list[tuple[int, str, dict[str, Any]]]] = {plural: [] for plural in _KINDS}
        self._forgotten = 0
        self._news = asyncio.Event()
        self._watches: set[asyncio.Task[Any]] = set()
        self._gone: set[asyncio.Task[Any]] = set()

    def put(self, plural: str, thing: dict[str, Any]) -> None:
        key = f"{thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"
        kind = "MODIFIED" if key in self._objects[plural] else "ADDED"
        self._change(plural, key, kind, thing)

    def delete(self, plural: str, name: str, namespace: str = "ml") -> None:
        key = f"{namespace}/{name}" if plural != "nodes" else f"/{name}"
        self._change(plural, key, "DELETED", self._objects[plural][key])

    def _change(self, plural: str, key: str, kind: str, thing: dict[str, Any]) -> None:
        self.version += 1
        thing = json.loads(json.dumps(thing))
        thing["metadata"]["resourceVersion"] = str(self.version)
        if kind == "DELETED":
            del self._objects[plural][key]
        else:
            self._objects[plural][key] = thing
        self._history[plural].append((self.version, kind, thing))
        self._news.set()
        self._news = asyncio.Event()

    def forget(self) -> None:
        """The history so far cannot be watched any more."""
        self._forgotten = self.version

    def restore(self, version: int) -> None:
        """From a backup: the versions begin again there."""
        self.version = version
        for history in self._history.values():
            history.clear()
        self.cut()

    def tell_gone(self) -> None:
        """Every watch ends with an event of 410."""
        self.forget()
        self.version += 1
        self._gone |= self._watches
        self._news.set()
        self._news = asyncio.Event()

    def cut(self) -> None:
        """Every watch breaks off."""
        for watch in list(self._watches):
            watch.cancel()

    def count(self, plural: str, *, watch: bool) -> int:
        return sum(p == plural and ("watch" in query) is watch for p, query in self.asked)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        plural, query = request.path.rsplit("/", 1)[1], dict(request.query)
        self.asked.append((plural, query))
        if self.down:
            return _status(503, "the server is currently unable to handle the request")
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        if plural not in _KINDS:
            return _status(404, "the server could not find the requested resource")
        if plural in self.forbidden:
            return _status(403, f'{plural} is forbidden: User "system:serviceaccount:ml:router" cannot list resource')
        wanted = request.match_info.get("namespace")
        if "watch" in query:
            return await self._watch(request, plural, wanted)
        return self._list(plural, query, wanted)

    def _list(self, plural: str, query: dict[str, str], namespace: str | None) -> web.Response:
        found = [t for t in self._objects[plural].values() if _fits(t, query.get("labelSelector", ""), namespace)]
        begin = int(query.get("continue") or 0)
        end = begin + min(self.page, int(query.get("limit") or self.page))
        head: dict[str, Any] = {"resourceVersion": str(self.version)}
        if end < len(found):
            head["continue"] = str(end)
        return web.json_response({"kind": f"{_KINDS[plural]}List", "metadata": head, "items": found[begin:end]})

    async def _watch(self, request: web.Request, plural: str, namespace: str | None) -> web.StreamResponse:
        version = int(request.query["resourceVersion"] or 0)
        if version < self._forgotten:
            return _status(410, "too old resource version")
        if version > self.version:
            return _status(504, f"Timeout: Too large resource version: {version}, current: {self.version}")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        selector = request.query.get("labelSelector", "")
        try:
            await self._stream(response, task, plural, version, selector, namespace)
        except ConnectionResetError:
            pass  # the watcher has left
        except asyncio.CancelledError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._watches.discard(task)
        return response

    async def _stream(
        self,
        response: web.StreamResponse,
        task: asyncio.Task[Any],
        plural: str,
        version: int,
        selector: str,
        namespace: str | None,
    ) -> None:
        while True:
            news = self._news
            for at, kind, thing in list(self._history[plural]):
                if at > version:
                    version = at
                    if _fits(thing, selector, namespace):
                        await _send(response, kind, thing)
            if task in self._gone:
                self._gone.discard(task)
                await _send(response, "ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
                return
            try:
                async with asyncio.timeout(self.bookmark_s):
                    await news.wait()
            except TimeoutError:
                version = self.version
                bookmark = {"kind": _KINDS[plural], "metadata": {"resourceVersion": str(version)}}
                await _send(response, "BOOKMARK", bookmark)


async def _send(response: web.StreamResponse, kind: str, thing: dict[str, Any]) -> None:
    await response.write(json.dumps({"type": kind, "object": thing}).encode() + b"\n")


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)


def _fits(thing: dict[str, Any], selector: str, namespace: str | None) -> bool:
    labels = thing["metadata"].get("labels") or {}
    pairs = (part.partition("=") for part in selector.split(",") if part)
    here = namespace is None or thing["metadata"].get("namespace") == namespace
    return here and all(labels.get(name) == value for name, _, value in pairs)


@asynccontextmanager
async def cluster_api(**options: Any) -> AsyncIterator[ClusterApi]:
    api = ClusterApi(**options)
    app = web.Application()
    app.router.add_get("/apis/discovery.k8s.io/v1/namespaces/{namespace}/{plural}", api.answer)
    app.router.add_get("/api/v1/namespaces/{namespace}/{plural}", api.answer)
    app.router.add_get("/api/v1/{plural}", api.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        api.cut()
        await runner.cleanup()
