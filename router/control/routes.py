"""The admin API, route by route. ``ROUTES`` is all of it: the server and its OpenAPI document are made from it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from router.control import views
from router.control.inputs import document_of, number, number_in, record_filter, text_of
from router.control.plane import ControlPlane
from router.control.replies import listing, reply
from router.errors import RouterError
from router.store.base import Key
from router.telemetry.journal import Record
from router.telemetry.metrics import CONTENT_TYPE
from router.telemetry.stats import WINDOW_S_MAX
from router.upstream.chaos import KINDS, InjectedFault

_log = logging.getLogger("router.control")

CONTROL: web.AppKey[ControlPlane] = web.AppKey("control", ControlPlane)
DOCUMENT: web.AppKey[dict[str, Any]] = web.AppKey("document", dict)

REQUESTS_MAX = 1000
_KEYS_MAX = 200
_TAIL_KEEPALIVE_S = 15.0
#: A fault that is forgotten ends within the hour.
CHAOS_S_MAX = 3600.0
_NO_KEY = "There is no key with this id."

Handler = Callable[[web.Request, ControlPlane], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the query."""

    name: str
    kind: str  # JSON Schema type
    doc: str


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str  # parameters in braces, as OpenAPI writes them
    name: str  # operationId
    summary: str
    handler: Handler
    query: tuple[Param, ...] = ()
    body: dict[str, Any] | None = None  # JSON Schema
    status: int = 200
    content_type: str = "application/json"
    open: bool = False  # needs no token


_FILTERS = (
    Param("model", "string", "Only requests for this model."),
    Param("tenant", "string", "Only requests of this tenant."),
    Param("backend", "string", "Only requests whose last attempt was at this backend or region."),
    Param("status", "string", "Only this HTTP status, or a class such as 5xx."),
)


async def healthz(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply({"status": "ok"})


async def readyz(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    why_not = control.ready()
    if why_not is None:
        return reply({"status": "ready"})
    return reply({"status": "not ready", "reason": why_not}, 503)


async def metrics(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    control.telemetry.flush()
    pieces = []
    for piece in control.telemetry.metrics.render():
        pieces.append(piece)
        await asyncio.sleep(0)
    return web.Response(body=b"".join(pieces), headers={"Content-Type": CONTENT_TYPE})


async def describe(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(request.app[DOCUMENT])


async def status(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    control.telemetry.flush()
    return reply(views.status(control, await control.store.ping()))


async def list_regions(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing([views.region(control, r) for r in control.reloader.config.regions])


async def list_backends(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing([views.backend(control, b) for b in control.fleet.backends.values()])


async def list_requests(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    match = record_filter(request)
    limit = int(number(request, "limit", 50, low=1, high=REQUESTS_MAX))
    return listing([views.request_summary(r) for r in control.telemetry.journal.list(match, limit=limit)])


async def show_request(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(views.request(_find_record(control, request.match_info["request_id"])))


async def tail_requests(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    journal = control.telemetry.journal
    try:
        subscription = journal.subscribe(record_filter(request))
    except RuntimeError as exc:
        raise RouterError("admission_full", f"{exc}.") from None
    try:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        # The head alone may wait in a buffer; a comment tells the reader that it is connected.
        await response.write(b": connected\n\n")
        dropped = 0
        while True:
            try:
                record = await asyncio.wait_for(subscription.get(), _TAIL_KEEPALIVE_S)
            except TimeoutError:
                await response.write(b": keep-alive\n\n")
                continue
            await response.write(b"event: request\ndata: %b\n\n" % orjson.dumps(views.request_summary(record)))
            if subscription.dropped > dropped:
                await response.write(b'event: dropped\ndata: {"records":%d}\n\n' % (subscription.dropped - dropped))
                dropped = subscription.dropped
    finally:
        journal.unsubscribe(subscription)


async def stats(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    control.telemetry.flush()
    return reply(control.telemetry.stats.window(number(request, "window_s", 60, low=1, high=WINDOW_S_MAX)))


async def list_keys(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing([views.key(k) for k in await control.store.list_keys()])


async def create_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _NEW_KEY)
    name = text_of(document, "name", required=True)
    plan = _plan(control, text_of(document, "plan") or "default")
    tenant = text_of(document, "tenant") or None
    key, secret = await control.store.create_key(name, plan, tenant)
    entry = {"id": key.id, "name": key.name, "tenant": key.tenant, "plan": key.plan.name, "key": secret}
    return reply(entry, 201)


async def show_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(views.key(await _find_key(control, request.match_info["key_id"])))


async def change_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _KEY_FIELDS)
    changes = {name: text_of(document, name, required=True) for name in document}
    if "plan" in changes:
        _plan(control, changes["plan"])
    if (key := await control.store.change_key(request.match_info["key_id"], changes)) is None:
        raise RouterError("not_found", _NO_KEY)
    return reply(views.key(key))


async def revoke_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    key = await _find_key(control, request.match_info["key_id"])
    await control.store.revoke_key(key.id)
    return reply(views.key(key) | {"revoked": True})


async def list_quotas(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    key_id = request.query.get("key")
    keys = [await _find_key(control, key_id)] if key_id else (await control.store.list_keys())[:_KEYS_MAX]
    return listing([views.quota(k, await control.store.quota(k)) for k in keys if key_id or not k.revoked])


async def reset_quota(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    key = await _find_key(control, request.match_info["key_id"])
    await control.store.reset_quota(key)
    return reply(views.quota(key, await control.store.quota(key)))


async def show_config(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(views.config(control.reloader))


async def reload_config(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    result = await control.reloader.reload("admin API")
    keys = [views.key(k) for k in await control.store.list_keys()]
    return reply(views.reloaded(result, control.reloader.config, keys))


async def list_policies(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing(views.policies(control.reloader.config.router.policy))


async def list_chaos(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing(views.chaos(control))


async def start_chaos(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    if not control.reloader.config.router.chaos:
        raise RouterError("invalid_request", "Chaos is off here: set [router] chaos = true, and reload.")
    document = await document_of(request, _CHAOS)
    targets = _backends_of(control, text_of(document, "target", required=True))
    if (kind := text_of(document, "fault", required=True)) not in KINDS:
        raise RouterError("invalid_request", f"A fault is one of {', '.join(KINDS)}.", param="fault")
    delay_s = number_in(document, "delay_s", 1.0, low=0.001, high=3600)
    after_tokens = int(number_in(document, "after_tokens", 10, low=0, high=1_000_000))
    for_s = number_in(document, "for_s", 60.0, low=0.1, high=CHAOS_S_MAX)
    fault = InjectedFault(kind, delay_s if kind == "delay" else 0.0, after_tokens if kind == "cut" else 0)
    for name in targets:
        control.chaos.start(name, fault, for_s)
    _log.warning("chaos: attempts at %s meet the fault %s for %g s", ", ".join(targets), kind, for_s)
    return listing(views.chaos(control))


async def stop_chaos(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    parts = [request.match_info[name] for name in ("region", "backend") if name in request.match_info]
    if parts:
        for name in _backends_of(control, "/".join(parts)):
            control.chaos.stop(name)
    else:
        control.chaos.stop_all()
    return listing(views.chaos(control))


async def explain(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _EXPLAIN)
    if "request_id" in document:
        record = _find_record(control, text_of(document, "request_id", required=True))
        return reply({"request_id": record.request_id, "decision": views.request(record)["decision"]})
    text_of(document, "model", required=True)
    if isinstance(document.get("residency"), list):
        document["residency"] = ",".join(map(str, document["residency"]))
    answer = control.explain(document)
    return reply(await answer if inspect.isawaitable(answer) else answer)


async def drain_region(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _set_region_draining(request, control, True)


async def resume_region(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _set_region_draining(request, control, False)


async def probe_region(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    name = request.match_info["region"]
    _region_view(control, name)
    backends = [b.name for b in control.fleet.backends.values() if b.region == name]
    probes = await asyncio.gather(*(_probe(control, b) for b in backends))
    return reply(_region_view(control, name) | {"probes": probes})


async def drain_backend(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _set_backend_draining(request, control, True)


async def resume_backend(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _set_backend_draining(request, control, False)


async def probe_backend(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    name = _backend_name(request)
    _backend_view(control, name)
    probe = await _probe(control, name)
    return reply(_backend_view(control, name) | {"probe": probe})


_KEY_FIELDS: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("name", "plan", "tenant")},
}
_NEW_KEY: dict[str, Any] = _KEY_FIELDS | {"required": ["name"]}
_EXPLAIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "prompt": {"type": "string"},
        "messages": {"type": "array", "items": {"type": "object"}},
        "max_tokens": {"type": "integer"},
        "region": {"type": "string"},
        "from": {"type": "string", "description": "A region: as if the client, and its router, stood there."},
        "residency": {"type": ["string", "array"], "description": "Jurisdictions: a list, or separated by commas."},
        "policy": {"type": "string"},
        "priority": {"type": "string"},
        "tools": {"type": "array", "items": {"type": "object"}},
        "request_id": {"type": "string", "description": "Instead of all else: explain a request that was served."},
    },
}
_CHAOS: dict[str, Any] = {
    "type": "object",
    "required": ["target", "fault"],
    "properties": {
        "target": {"type": "string", "description": "A region, or a backend as us-east/a."},
        "fault": {"type": "string", "enum": list(KINDS)},
        "delay_s": {"type": "number", "description": "Of delay: before each attempt (default 1)."},
        "after_tokens": {"type": "integer", "description": "Of cut: how many tokens come through (default 10)."},
        "for_s": {"type": "number", "description": f"How long it lasts (default 60, at most {CHAOS_S_MAX:g})."},
    },
}
_LIMIT = Param("limit", "integer", f"At most this many, newest first (1 to {REQUESTS_MAX}, default 50).")
_SINCE = Param("since_s", "number", "Only requests that arrived after this time: seconds since 1970.")
_WINDOW = Param("window_s", "number", f"How far to look back, in seconds (1 to {WINDOW_S_MAX}, default 60).")
_KEY = Param("key", "string", "Only the limits of this key's id.")
_V1 = "/admin/v1"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", "healthz", "Is this process alive?", healthz, open=True),
    Route("GET", "/readyz", "readyz", "Should this router get traffic? 503 if not.", readyz, open=True),
    Route("GET", "/metrics", "metrics", "Metrics for Prometheus.", metrics, content_type="text/plain"),
    Route("GET", f"{_V1}/openapi.json", "openapi", "This document.", describe),
    Route("GET", f"{_V1}/status", "status", "The router and its fleet at a glance.", status),
    Route("GET", f"{_V1}/regions", "listRegions", "Every region with its backends.", list_regions),
    Route("GET", f"{_V1}/backends", "listBackends", "Every backend.", list_backends),
    Route(
        "GET",
        f"{_V1}/requests",
        "listRequests",
        "The last requests.",
        list_requests,
        query=(_LIMIT, *_FILTERS, _SINCE),
    ),
    Route(
        "GET",
        f"{_V1}/requests/tail",
        "tailRequests",
        "Requests as they finish: server-sent events named request.",
        tail_requests,
        query=_FILTERS,
        content_type="text/event-stream",
    ),
    Route(
        "GET",
        f"{_V1}/requests/{{request_id}}",
        "showRequest",
        "One request: its attempts, and why it went where it went.",
        show_request,
    ),
    Route("GET", f"{_V1}/stats", "stats", "Requests by region, model, tenant and cause.", stats, query=(_WINDOW,)),
    Route("GET", f"{_V1}/keys", "listKeys", "Every API key, without its secret.", list_keys),
    Route("POST", f"{_V1}/keys", "createKey", "Make an API key.", create_key, body=_NEW_KEY, status=201),
    Route("GET", f"{_V1}/keys/{{key_id}}", "showKey", "One API key.", show_key),
    Route(
        "PATCH",
        f"{_V1}/keys/{{key_id}}",
        "changeKey",
        "Give an API key another plan, tenant or name.",
        change_key,
        body=_KEY_FIELDS,
    ),
    Route("DELETE", f"{_V1}/keys/{{key_id}}", "revokeKey", "Revoke an API key.", revoke_key),
    Route("GET", f"{_V1}/quotas", "listQuotas", "How far the limits of keys are used.", list_quotas, query=(_KEY,)),
    Route(
        "DELETE", f"{_V1}/quotas/{{key_id}}", "resetQuota", "Reset the limits of a key: nothing is used.", reset_quota
    ),
    Route("GET", f"{_V1}/config", "showConfig", "The configuration in force, without secrets.", show_config),
    Route("POST", f"{_V1}/config/reload", "reloadConfig", "Read the file again; 422 if it is wrong.", reload_config),
    Route("GET", f"{_V1}/policies", "listPolicies", "The routing policies.", list_policies),
    Route("GET", f"{_V1}/chaos", "listChaos", "Faults on purpose that go on.", list_chaos),
    Route("POST", f"{_V1}/chaos", "startChaos", "Make attempts fail on purpose.", start_chaos, body=_CHAOS),
    Route("DELETE", f"{_V1}/chaos", "stopChaos", "End every fault.", stop_chaos),
    Route("DELETE", f"{_V1}/chaos/{{region}}", "stopRegionChaos", "End the faults of a region.", stop_chaos),
    Route(
        "DELETE", f"{_V1}/chaos/{{region}}/{{backend}}", "stopBackendChaos", "End the fault of a backend.", stop_chaos
    ),
    Route("POST", f"{_V1}/explain", "explain", "Where would it go, and why? Sends nothing.", explain, body=_EXPLAIN),
    Route(
        "POST", f"{_V1}/regions/{{region}}/drain", "drainRegion", "No new requests to a region, anywhere.", drain_region
    ),
    Route("POST", f"{_V1}/regions/{{region}}/resume", "resumeRegion", "End the drain of a region.", resume_region),
    Route("POST", f"{_V1}/regions/{{region}}/probe", "probeRegion", "Probe a region's backends now.", probe_region),
    Route(
        "POST",
        f"{_V1}/backends/{{region}}/{{backend}}/drain",
        "drainBackend",
        "No new requests to a backend, anywhere.",
        drain_backend,
    ),
    Route(
        "POST",
        f"{_V1}/backends/{{region}}/{{backend}}/resume",
        "resumeBackend",
        "End the drain of a backend.",
        resume_backend,
    ),
    Route(
        "POST", f"{_V1}/backends/{{region}}/{{backend}}/probe", "probeBackend", "Probe a backend now.", probe_backend
    ),
)


async def _set_region_draining(request: web.Request, control: ControlPlane, draining: bool) -> web.StreamResponse:
    name = request.match_info["region"]
    _region_view(control, name)
    everywhere = await control.drains.set(name, draining)
    return reply(_region_view(control, name) | views.drain_reach(everywhere))


async def _set_backend_draining(request: web.Request, control: ControlPlane, draining: bool) -> web.StreamResponse:
    name = _backend_name(request)
    _backend_view(control, name)
    everywhere = await control.drains.set(name, draining)
    return reply(_backend_view(control, name) | views.drain_reach(everywhere))


async def _probe(control: ControlPlane, backend: str) -> dict[str, Any]:
    try:
        return await control.observer.probe_now(backend)
    except KeyError:
        raise RouterError("not_found", f"No backend {backend} is watched.") from None


def _region_view(control: ControlPlane, name: str) -> dict[str, Any]:
    for configured in control.reloader.config.regions:
        if configured.spec.name == name:
            return views.region(control, configured)
    known = ", ".join(r.spec.name for r in control.reloader.config.regions)
    raise RouterError("not_found", f"There is no such region. There are: {known or 'none'}.")


def _backends_of(control: ControlPlane, target: str) -> list[str]:
    """The backends of a region, or the one that is named."""
    found = [b.name for b in control.fleet.backends.values() if target in (b.region, b.name)]
    if not found:
        raise RouterError("not_found", "There is no such region or backend; names are like us-east or us-east/a.")
    return found


def _backend_name(request: web.Request) -> str:
    return f"{request.match_info['region']}/{request.match_info['backend']}"


def _backend_view(control: ControlPlane, name: str) -> dict[str, Any]:
    if (backend := control.fleet.backends.get(name)) is None:
        raise RouterError("not_found", "There is no such backend; names are like us-east/a.")
    return views.backend(control, backend)


def _find_record(control: ControlPlane, request_id: str) -> Record:
    if (record := control.telemetry.journal.find(request_id)) is None:
        raise RouterError("not_found", "No such request among the last ones; the journal may have moved on.")
    return record


async def _find_key(control: ControlPlane, key_id: str) -> Key:
    if (key := await control.store.get_key(key_id)) is None:
        raise RouterError("not_found", _NO_KEY)
    return key


def _plan(control: ControlPlane, name: str) -> str:
    """The name of a plan there is."""
    if name not in control.reloader.config.plans:
        known = ", ".join(sorted(control.reloader.config.plans))
        raise RouterError("invalid_request", f"There is no such plan. There are: {known}.", param="plan")
    return name
