"""Faults that an operator injects."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from router.control import views
from router.control.callers import noting
from router.control.inputs import document_of, number_in, text_of
from router.control.plane import ControlPlane
from router.control.replies import reply
from router.control.route import V1, Route
from router.control.shared_faults import CHAOS_S_MAX
from router.core.suggest import no_such
from router.errors import RouterError
from router.moments import span_text
from router.upstream.chaos import KINDS, STALE, InjectedFault

#: parameter -> (default, least, most)
_PARAMETERS = {
    "delay_s": (1.0, 0.001, 3600),
    "after_tokens": (10, 0, 1_000_000),
    "status": (500, 300, 599),
    "factor": (4.0, 1, 1000),
}


async def list_chaos(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(views.chaos(control))


async def start_chaos(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    if not control.faults.allowed():
        raise RouterError("invalid_request", "Chaos is off here: set [router] chaos = true, and reload.")
    document = await document_of(request, _CHAOS)
    fault = await _fault_of(control, document)
    for_s = number_in(document, "for_s", 60.0, low=0.1, high=CHAOS_S_MAX)
    shared = await control.faults.begin(fault, for_s)
    noting(request, control)("chaos", _subject(fault), after=str(fault), why=f"for {span_text(for_s)}")
    return reply(views.chaos(control) | views.reach(shared))


async def stop_chaos(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    parts = [request.match_info[name] for name in ("region", "backend") if name in request.match_info]
    target = "/".join(parts) or None
    if target is not None:
        _check_target(control, target)
    before = [fault for fault, _ in control.faults.chaos.running()]
    shared = await control.faults.end(target)
    going_on = {fault.name for fault, _ in control.faults.chaos.running()}
    for fault in before:
        if fault.name not in going_on:
            noting(request, control)("chaos", _subject(fault), before=str(fault), after="ended")
    return reply(views.chaos(control) | views.reach(shared))


async def _fault_of(control: ControlPlane, document: dict[str, Any]) -> InjectedFault:
    target, key = text_of(document, "target") or None, text_of(document, "key") or None
    if (kind := text_of(document, "fault", required=True)) not in KINDS:
        raise RouterError("invalid_request", f"A fault is one of {', '.join(KINDS)}.", param="fault")
    if target is not None:
        _check_target(control, target)
    elif key is None:
        raise RouterError("invalid_request", "Say at which region or backend, or for which key.", param="target")
    if key is not None and key not in (known := [k.id for k in await control.store.list_keys()]):
        raise RouterError("not_found", no_such("key with the id", key, known))
    own, value = KINDS[kind][0], 0.0
    for name, (default, low, high) in _PARAMETERS.items():
        if name == own:
            value = number_in(document, name, default, low=low, high=high)
        elif document.get(name) is not None:
            raise RouterError("invalid_request", f"{kind} has no {name}.", param=name)
    share = number_in(document, "share", 1.0, low=0.0001, high=1.0)
    for name, said in (("key", key is not None), ("share", share < 1.0)):
        if kind == STALE and said:
            raise RouterError("invalid_request", "Metrics stand still for all requests.", param=name)
    return InjectedFault(kind, target, value, key, share)


_CHAOS: dict[str, Any] = {
    "type": "object",
    "required": ["fault"],
    "properties": {
        "target": {
            "type": "string",
            "description": "A region, or a backend as us-east/a. Without one: all, for a key.",
        },
        "fault": {"type": "string", "enum": list(KINDS)},
        "key": {"type": "string", "description": "Only requests of the key with this id meet it."},
        "share": {"type": "number", "description": "Of the attempts that could meet it (default 1: all)."},
        "delay_s": {"type": "number", "description": "Of delay: before each attempt (default 1)."},
        "after_tokens": {"type": "integer", "description": "Of cut and stall: tokens that come through (default 10)."},
        "status": {"type": "integer", "description": "Of status: what attempts are answered with (default 500)."},
        "factor": {"type": "number", "description": "Of slow: how many times as long it takes (default 4)."},
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


def _subject(fault: InjectedFault) -> str:
    return fault.target or f"key {fault.key}"


def _check_target(control: ControlPlane, target: str) -> None:
    known = {name for b in control.fleet.backends.values() for name in (b.region, b.name)}
    if target not in known:
        raise RouterError("not_found", no_such("region or backend", target, known))
