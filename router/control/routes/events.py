"""The history: what changed for all requests, when, why and by whom; listed, or as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
from aiohttp import web

from router.control.inputs import number
from router.control.plane import ControlPlane
from router.control.replies import listing
from router.control.route import V1, Param, Route
from router.control.unknown import unknown
from router.errors import RouterError
from router.telemetry.history import KINDS, Occurrence, document

EVENTS_MAX = 5000
#: Calls whose change is an event of its own: in a list of all kinds the call would tell it twice.
TOLD_BY_CHANGES = frozenset(
    {
        *("drainRegion", "resumeRegion", "noticeRegion", "cancelRegionNotice"),
        *("drainBackend", "resumeBackend", "noticeBackend", "cancelBackendNotice", "beginBurnIn"),
        *("registerBackend", "deregisterBackend", "createKey", "changeKey", "rotateKey", "revokeKey", "resetQuota"),
        *("reloadConfig", "startChaos", "stopChaos", "stopRegionChaos", "stopBackendChaos"),
    }
)
_KEEPALIVE_S = 15.0


async def list_events(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    match = event_filter(request, control)
    limit = int(number(request, "limit", 100, low=1, high=EVENTS_MAX))
    control.chronicle.look()
    return listing([document(o) for o in control.chronicle.history.list(match, limit=limit)])


async def tail_events(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    history = control.chronicle.history
    match, past = event_filter(request, control), int(number(request, "past", 0, low=0, high=EVENTS_MAX))
    try:
        subscription = history.subscribe(match)
    except RuntimeError as exc:
        raise RouterError("admission_full", f"{exc}.") from None
    try:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        await response.write(b": connected\n\n")
        told = history.list(match, limit=past) if past else []
        for occurrence in reversed(told):
            await response.write(_event(occurrence))
        known = {occurrence.id for occurrence in told}  # some of them may have come meanwhile
        while True:
            try:
                occurrence = await asyncio.wait_for(subscription.get(), _KEEPALIVE_S)
            except TimeoutError:
                await response.write(b": keep-alive\n\n")
                continue
            if occurrence.id not in known:
                await response.write(_event(occurrence))
    finally:
        history.unsubscribe(subscription)


def _event(occurrence: Occurrence) -> bytes:
    return b"event: event\ndata: %b\n\n" % orjson.dumps(document(occurrence))


def event_filter(request: web.Request, control: ControlPlane) -> Callable[[Occurrence], bool]:
    """Raises RouterError for a kind, a region, a backend or a router that neither the fleet nor the history knows."""
    query = request.query
    kinds = frozenset(filter(None, query.get("kind", "").split(",")))
    region, backend, router = (query.get(name) for name in ("region", "backend", "router"))
    since_s = number(request, "since_s", 0.0, low=0.0, high=1e12)
    for kind in sorted(kinds - KINDS.keys()):
        raise unknown("kind", kind, KINDS, most=len(KINDS))
    if region is not None:
        _check("region", region, {r.spec.name for r in control.reloader.config.regions}, control, lambda o: o.region)
    if backend is not None:
        _check("backend", backend, set(control.fleet.backends), control, lambda o: o.subject)
    if router is not None:
        routers = {control.reloader.config.router.name, *(peer.name for peer in control.exchange.known())}
        _check("router", router, routers, control, lambda o: o.router.partition("#")[0])

    def match(o: Occurrence) -> bool:
        return (
            (o.kind in kinds if kinds else not _told_twice(o))
            and (region is None or o.region == region)
            and (backend is None or o.subject == backend)
            and (router is None or router == o.router.partition("#")[0])
            and o.at_s >= since_s
        )

    return match


def _told_twice(o: Occurrence) -> bool:
    """A call that was done, or whose refusal is an event. One that was refused otherwise has no other event."""
    if o.kind != "operator" or o.why not in TOLD_BY_CHANGES:
        return False
    return o.after is None or o.after.startswith("2") or o.after == "invalid_config"


def _check(
    param: str, name: str, known: set[str], control: ControlPlane, of: Callable[[Occurrence], str | None]
) -> None:
    """The history has names of others, and of what is gone."""
    history = control.chronicle.history
    if name in known or history.list(lambda o: of(o) == name, limit=1):
        return
    raise unknown(param, name, known)


_FILTERS = (
    Param(
        "kind",
        "string",
        f"Only these kinds, separated by commas: {', '.join(KINDS)}. Without it a call of an operator is left out if "
        "its change is listed.",
    ),
    Param("region", "string", "Only what is about this region or its backends."),
    Param("backend", "string", "Only what is about this backend, as us-east/a."),
    Param("router", "string", "Only what this router has seen or was told."),
)
_SINCE = Param("since_s", "number", "Only events after this time: seconds since 1970.")
_LIMIT = Param("limit", "integer", f"At most this many, newest first (1 to {EVENTS_MAX}, default 100).")
_PAST = Param("past", "integer", "Events of the past to begin with, at most; default none.")

ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        f"{V1}/events",
        "listEvents",
        "The history of all routers that share the store: what changed, when, why and by whom.",
        list_events,
        query=(_LIMIT, *_FILTERS, _SINCE),
    ),
    Route(
        "GET",
        f"{V1}/events/tail",
        "tailEvents",
        "Events as they happen: server-sent events named event.",
        tail_events,
        query=(*_FILTERS, _SINCE, _PAST),
        content_type="text/event-stream",
    ),
)
