"""Regions and backends: how they are, drained, given notice, resumed, probed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

from router import clock
from router.control import fleetwide, views
from router.control.callers import by_of, noting, who_of
from router.control.inputs import document_of, number_in, text_of
from router.control.last_minute import requests_by_backend
from router.control.plane import ControlPlane
from router.control.replies import listing, reply
from router.control.route import V1, Route
from router.control.routes.process import ROUTER
from router.core.suggest import no_such
from router.errors import RouterError
from router.moments import span_text

#: Of a region or a backend, by its name. Raises RouterError.
_View = Callable[[ControlPlane, str], dict[str, Any]]

#: The longest drain that ends by itself.
DRAIN_S_MAX = 30 * 86_400.0
#: The longest notice.
NOTICE_S_MAX = 86_400.0


async def list_regions(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    me = control.reloader.config.router.name
    heard = await fleetwide.ask(control, request, "listRegions")
    own = [views.region(control, r) for r in control.reloader.config.regions] if heard.own else None
    others = [(name, document["data"]) for name, document in heard.documents()]
    found = fleetwide.regions(me, own, others) if others else own or []
    return reply({"data": found, "fleet": heard.about(me)})


async def list_backends(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing([views.backend(control, b) for b in control.fleet.backends.values()])


async def drain_region(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _drain(request, control, _region_view, request.match_info["region"])


async def resume_region(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _resume(request, control, _region_view, request.match_info["region"])


async def notice_region(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _give_notice(request, control, _region_view, request.match_info["region"])


async def cancel_region_notice(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _cancel_notice(request, control, _region_view, request.match_info["region"])


async def probe_region(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    name = request.match_info["region"]
    _region_view(control, name)
    backends = [b.name for b in control.fleet.backends.values() if b.region == name]
    probes = await asyncio.gather(*(_probe(control, b) for b in backends))
    return reply(_region_view(control, name) | {"probes": probes})


async def region_losses(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    name = request.match_info["region"]
    _region_view(control, name)
    return reply(await _losses(request, control, name))


async def backend_losses(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    name = _backend_name(request)
    _backend_view(control, name)
    return reply(await _losses(request, control, name))


def answered(control: ControlPlane) -> dict[str, int]:
    """How many requests of this router each backend answered in the last minute."""
    control.telemetry.flush()
    return requests_by_backend(control.telemetry.journal.newest_first(), clock.wall_s())


async def _losses(request: web.Request, control: ControlPlane, name: str) -> dict[str, Any]:
    """A drain is of all routers, and so is the traffic that it moves."""
    heard = await fleetwide.ask(control, request, "lastMinute")
    counts = Counter(answered(control))
    for _, document in heard.documents():
        counts.update(document)
    return views.losses(control, name, counts)


async def drain_backend(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _drain(request, control, _backend_view, _backend_name(request))


async def resume_backend(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _resume(request, control, _backend_view, _backend_name(request))


async def notice_backend(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _give_notice(request, control, _backend_view, _backend_name(request))


async def cancel_backend_notice(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return await _cancel_notice(request, control, _backend_view, _backend_name(request))


async def probe_backend(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    name = _backend_name(request)
    _backend_view(control, name)
    probe = await _probe(control, name)
    return reply(_backend_view(control, name) | {"probe": probe})


async def begin_burn_in(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    name = _backend_name(request)
    _backend_view(control, name)
    control.burn_ins.begin(name)
    noting(request, control)("burn-in", name, after="asked for")
    return reply(views.burn_in(control, name), 202)


async def show_burn_in(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    name = _backend_name(request)
    _backend_view(control, name)
    return reply(views.burn_in(control, name))


_DRAIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "for_s": {
            "type": "number",
            "description": f"How long, in seconds (1 to {DRAIN_S_MAX:g}). Without: until it is resumed.",
        },
        "by": {"type": "string", "description": "Who says so."},
        "reason": {"type": "string", "description": "Why, for the others."},
    },
}

_NOTICE: dict[str, Any] = {
    "type": "object",
    "required": ["in_s"],
    "properties": {
        "in_s": {
            "type": "number",
            "description": f"When, in seconds (0 to {NOTICE_S_MAX:g}). An earlier notice that ends sooner holds.",
        },
        "by": {"type": "string", "description": "Who says so."},
    },
}

ROUTES: tuple[Route, ...] = (
    Route("GET", f"{V1}/regions", "listRegions", "Every region with its backends.", list_regions, query=(ROUTER,)),
    Route("GET", f"{V1}/backends", "listBackends", "Every backend.", list_backends),
    Route(
        "GET",
        f"{V1}/regions/{{region}}/losses",
        "regionLosses",
        "What would be lost without a region: models, jurisdictions, plans, its share of the traffic of all routers.",
        region_losses,
    ),
    Route(
        "GET",
        f"{V1}/backends/{{region}}/{{backend}}/losses",
        "backendLosses",
        "The same for a backend.",
        backend_losses,
    ),
    Route(
        "POST",
        f"{V1}/regions/{{region}}/drain",
        "drainRegion",
        "No new requests to a region, anywhere.",
        drain_region,
        body=_DRAIN,
        body_optional=True,
    ),
    Route(
        "POST",
        f"{V1}/regions/{{region}}/resume",
        "resumeRegion",
        "End the drain and the notice of a region.",
        resume_region,
    ),
    Route(
        "POST",
        f"{V1}/regions/{{region}}/notice",
        "noticeRegion",
        "A region goes away at a known time: no new requests, and answers are handed over before.",
        notice_region,
        body=_NOTICE,
    ),
    Route(
        "DELETE",
        f"{V1}/regions/{{region}}/notice",
        "cancelRegionNotice",
        "A region does not go away, or is back.",
        cancel_region_notice,
    ),
    Route(
        "POST",
        f"{V1}/regions/{{region}}/probe",
        "probeRegion",
        "Probe a region's backends now.",
        probe_region,
        changes=False,
    ),
    Route(
        "POST",
        f"{V1}/backends/{{region}}/{{backend}}/drain",
        "drainBackend",
        "No new requests to a backend, anywhere.",
        drain_backend,
        body=_DRAIN,
        body_optional=True,
    ),
    Route(
        "POST",
        f"{V1}/backends/{{region}}/{{backend}}/resume",
        "resumeBackend",
        "End the drain and the notice of a backend.",
        resume_backend,
    ),
    Route(
        "POST",
        f"{V1}/backends/{{region}}/{{backend}}/notice",
        "noticeBackend",
        "The same for a backend.",
        notice_backend,
        body=_NOTICE,
    ),
    Route(
        "DELETE",
        f"{V1}/backends/{{region}}/{{backend}}/notice",
        "cancelBackendNotice",
        "A backend does not go away, or is back.",
        cancel_backend_notice,
    ),
    Route(
        "POST",
        f"{V1}/backends/{{region}}/{{backend}}/burn-in",
        "beginBurnIn",
        "Measure whether a backend is fit for traffic. Ends in some seconds; ask for the result.",
        begin_burn_in,
        status=202,
    ),
    Route(
        "GET",
        f"{V1}/backends/{{region}}/{{backend}}/burn-in",
        "showBurnIn",
        "How far the burn-in of a backend is, and its report.",
        show_burn_in,
    ),
    Route(
        "POST",
        f"{V1}/backends/{{region}}/{{backend}}/probe",
        "probeBackend",
        "Probe a backend now.",
        probe_backend,
        changes=False,
    ),
)


async def _drain(request: web.Request, control: ControlPlane, view: _View, name: str) -> web.StreamResponse:
    before = view(control, name)
    document = await document_of(request, _DRAIN) if request.can_read_body else {}
    for_s = None
    if document.get("for_s") is not None:
        for_s = number_in(document, "for_s", 0.0, low=1, high=DRAIN_S_MAX)
    by, reason = by_of(request, text_of(document, "by"), who_of(request)), text_of(document, "reason")
    everywhere = await control.drains.set(name, True, by=by, reason=reason, for_s=for_s)
    if not before["draining"] or reason or for_s is not None:
        told = [reason, "" if for_s is None else f"for {span_text(for_s)}"]
        why = ", ".join(filter(None, told)) or None
        noting(request, control)("drain", name, before=before["state"], after="draining", why=why)
    return reply(view(control, name) | views.reach(everywhere))


async def _resume(request: web.Request, control: ControlPlane, view: _View, name: str) -> web.StreamResponse:
    """Whatever kept requests away."""
    before = view(control, name)
    everywhere = await control.drains.set(name, False)
    everywhere = await control.notices.cancel(name) and everywhere
    if any(b["draining"] for b in before.get("backends", [before])):
        noting(request, control)("drain", name, before="draining", after="resumed")
    _note_the_end(request, control, name, before)
    return reply(view(control, name) | views.reach(everywhere))


async def _give_notice(request: web.Request, control: ControlPlane, view: _View, name: str) -> web.StreamResponse:
    before = view(control, name)
    document = await document_of(request, _NOTICE)
    if document.get("in_s") is None:
        raise RouterError("invalid_request", "in_s says in how many seconds it goes away.", param="in_s")
    in_s = number_in(document, "in_s", 0.0, low=0, high=NOTICE_S_MAX)
    by = by_of(request, text_of(document, "by"), f"an operator of {control.reloader.config.router.name}")
    everywhere = await control.notices.give(name, in_s, by)
    told = f"it goes away in {in_s:g} s, says {by}"
    noting(request, control)("notice", name, before=before["state"], after="leaving", why=told)
    return reply(view(control, name) | views.reach(everywhere))


async def _cancel_notice(request: web.Request, control: ControlPlane, view: _View, name: str) -> web.StreamResponse:
    before = view(control, name)
    everywhere = await control.notices.cancel(name)
    _note_the_end(request, control, name, before)
    return reply(view(control, name) | views.reach(everywhere))


def _note_the_end(request: web.Request, control: ControlPlane, name: str, before: dict[str, Any]) -> None:
    if any(b["leaving"] for b in before.get("backends", [before])):
        noting(request, control)("notice", name, before="leaving", after="stays")


async def _probe(control: ControlPlane, backend: str) -> dict[str, Any]:
    try:
        found = await control.observer.probe_now(backend)
    except KeyError:
        raise RouterError("not_found", f"No backend {backend} is watched.") from None
    if (load := found["load"]) is not None:  # moments of the admin API are of the wall clock
        found |= {"load": load | {"at_s": clock.wall_s() - control.now_s() + load["at_s"]}}
    return found


def _region_view(control: ControlPlane, name: str) -> dict[str, Any]:
    for configured in control.reloader.config.regions:
        if configured.spec.name == name:
            return views.region(control, configured)
    raise RouterError("not_found", no_such("region", name, [r.spec.name for r in control.reloader.config.regions]))


def _backend_name(request: web.Request) -> str:
    return f"{request.match_info['region']}/{request.match_info['backend']}"


def _backend_view(control: ControlPlane, name: str) -> dict[str, Any]:
    if (backend := control.fleet.backends.get(name)) is None:
        raise RouterError("not_found", no_such("backend", name, control.fleet.backends))
    return views.backend(control, backend)
