"""Faults that an operator injects."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web

from router.control import views
from router.control.inputs import document_of, number_in, text_of
from router.control.plane import ControlPlane
from router.control.replies import listing
from router.control.route import V1, Route
from router.errors import RouterError
from router.upstream.chaos import KINDS, InjectedFault

_log = logging.getLogger("router.control")

#: A fault that is forgotten ends within the hour.
CHAOS_S_MAX = 3600.0


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


ROUTES: tuple[Route, ...] = (
    Route("GET", f"{V1}/chaos", "listChaos", "Faults on purpose that go on.", list_chaos),
    Route("POST", f"{V1}/chaos", "startChaos", "Make attempts fail on purpose.", start_chaos, body=_CHAOS),
    Route("DELETE", f"{V1}/chaos", "stopChaos", "End every fault.", stop_chaos),
    Route("DELETE", f"{V1}/chaos/{{region}}", "stopRegionChaos", "End the faults of a region.", stop_chaos),
    Route(
        "DELETE", f"{V1}/chaos/{{region}}/{{backend}}", "stopBackendChaos", "End the fault of a backend.", stop_chaos
    ),
)


def _backends_of(control: ControlPlane, target: str) -> list[str]:
    """The backends of a region, or the one that is named."""
    found = [b.name for b in control.fleet.backends.values() if target in (b.region, b.name)]
    if not found:
        raise RouterError("not_found", "There is no such region or backend; names are like us-east or us-east/a.")
    return found
