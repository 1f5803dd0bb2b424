"""Regions and backends: how they are, drained, resumed, probed."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from router.control import views
from router.control.plane import ControlPlane
from router.control.replies import listing, reply
from router.control.route import V1, Route
from router.errors import RouterError


async def list_regions(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing([views.region(control, r) for r in control.reloader.config.regions])


async def list_backends(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing([views.backend(control, b) for b in control.fleet.backends.values()])


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


ROUTES: tuple[Route, ...] = (
    Route("GET", f"{V1}/regions", "listRegions", "Every region with its backends.", list_regions),
    Route("GET", f"{V1}/backends", "listBackends", "Every backend.", list_backends),
    Route(
        "POST", f"{V1}/regions/{{region}}/drain", "drainRegion", "No new requests to a region, anywhere.", drain_region
    ),
    Route("POST", f"{V1}/regions/{{region}}/resume", "resumeRegion", "End the drain of a region.", resume_region),
    Route("POST", f"{V1}/regions/{{region}}/probe", "probeRegion", "Probe a region's backends now.", probe_region),
    Route(
        "POST",
        f"{V1}/backends/{{region}}/{{backend}}/drain",
        "drainBackend",
        "No new requests to a backend, anywhere.",
        drain_backend,
    ),
    Route(
        "POST",
        f"{V1}/backends/{{region}}/{{backend}}/resume",
        "resumeBackend",
        "End the drain of a backend.",
        resume_backend,
    ),
    Route("POST", f"{V1}/backends/{{region}}/{{backend}}/probe", "probeBackend", "Probe a backend now.", probe_backend),
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


def _backend_name(request: web.Request) -> str:
    return f"{request.match_info['region']}/{request.match_info['backend']}"


def _backend_view(control: ControlPlane, name: str) -> dict[str, Any]:
    if (backend := control.fleet.backends.get(name)) is None:
        raise RouterError("not_found", "There is no such backend; names are like us-east/a.")
    return views.backend(control, backend)
