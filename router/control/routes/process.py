"""This process: alive, ready, its metrics and figures."""

from __future__ import annotations

import asyncio

from aiohttp import web

from router.control import views
from router.control.inputs import number
from router.control.plane import ControlPlane
from router.control.replies import reply
from router.control.route import DOCUMENT, V1, Param, Route
from router.telemetry.metrics import CONTENT_TYPE
from router.telemetry.stats import WINDOW_S_MAX


async def healthz(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply({"status": "ok"})


async def readyz(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    why_not = control.ready()
    if why_not is None:
        if control.store.state == "up":
            return reply({"status": "ready"})
        return reply({"status": "ready", "store": control.store.notice})
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


async def stats(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    control.telemetry.flush()
    return reply(control.telemetry.stats.window(number(request, "window_s", 60, low=1, high=WINDOW_S_MAX)))


_WINDOW = Param("window_s", "number", f"How far to look back, in seconds (1 to {WINDOW_S_MAX}, default 60).")


ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", "healthz", "Is this process alive?", healthz, open=True),
    Route("GET", "/readyz", "readyz", "Should this router get traffic? 503 if not.", readyz, open=True),
    Route("GET", "/metrics", "metrics", "Metrics for Prometheus.", metrics, content_type="text/plain"),
    Route("GET", f"{V1}/openapi.json", "openapi", "This document.", describe),
    Route("GET", f"{V1}/status", "status", "The router and its fleet at a glance.", status),
    Route("GET", f"{V1}/stats", "stats", "Requests by region, model, tenant and cause.", stats, query=(_WINDOW,)),
)
