"""This process: alive, ready, its metrics and figures."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from router.control import fleetwide, vanished, views
from router.control.inputs import number, usage_of
from router.control.plane import ControlPlane
from router.control.replies import reply
from router.control.route import DOCUMENT, V1, Param, Route
from router.core.suggest import did_you_mean
from router.errors import RouterError
from router.telemetry import minutes
from router.telemetry.formats import format_for
from router.telemetry.history import History
from router.telemetry.stats import WINDOW_S, WINDOW_S_MAX, Window


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
    pieces, form = [], format_for(request.headers.get("Accept", ""))
    for piece in control.telemetry.metrics.render(form):
        pieces.append(piece)
        await asyncio.sleep(0)
    return web.Response(body=b"".join(pieces), headers={"Content-Type": form.value})


async def describe(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(request.app[DOCUMENT])


async def status(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    control.telemetry.flush()
    me = control.reloader.config.router.name
    heard, (_, window) = await asyncio.gather(
        fleetwide.ask(control, request, "status"), _window(request, control, views.TRAFFIC_WINDOW_S)
    )
    documents = [(me, views.status(control, await control.store.ping()))] if heard.own else []
    merged = fleetwide.status([*documents, *heard.documents()])
    merged["traffic"] |= views.traffic(window)
    if "router" not in request.query:
        merged["troubles"] += fleetwide.missing(control)
    return reply(merged | {"fleet": heard.about(me)})


async def stats(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    heard, window = await _window(request, control, number(request, "window_s", WINDOW_S, low=1, high=WINDOW_S_MAX))
    return reply(window.document() | {"fleet": heard.about(control.reloader.config.router.name)})


async def _window(request: web.Request, control: ControlPlane, window_s: float) -> tuple[fleetwide.Heard, Window]:
    """The counts of the last seconds, of all that the request is about."""
    heard = await fleetwide.ask(control, request, "window", {"window_s": f"{window_s:g}"})
    merged = Window(window_s, 1.0)
    if heard.own:
        control.telemetry.flush()
        merged.merge(control.telemetry.stats.last(window_s))
    for _, raw in heard.answers:
        merged.merge(msgspec.msgpack.decode(raw, type=Window))
    return heard, merged


async def usage(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    since_s, by = usage_of(request)
    if (sort := request.query.get("sort", "requests")) not in minutes.SORTS:
        hint = did_you_mean(sort, minutes.SORTS) or "."
        raise RouterError("invalid_request", f"Sort by one of {', '.join(minutes.SORTS)}{hint}", param="sort")
    heard = await fleetwide.ask(control, request, "minutes", {"since_s": f"{since_s:g}", "by": ",".join(by)})
    control.telemetry.flush()
    own = [control.telemetry.minutes.usage(since_s, by)] if heard.own else []
    told = [msgspec.msgpack.decode(raw, type=dict[tuple[str, ...], minutes.Spent]) for _, raw in heard.answers]
    about = heard.about(control.reloader.config.router.name)
    return reply(minutes.document(minutes.merged([*own, *told]), since_s, by, sort) | {"fleet": about})


async def list_routers(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    """Every router that shares the store, also those that do not answer, and those that died within the last hour."""
    me = control.reloader.config.router.name
    heard = await fleetwide.ask(control, request, "status")
    documents = [(me, views.status(control, await control.store.ping())), *heard.documents()]
    lines = [_router(document, 0.0, here=number == 0) for number, (_, document) in enumerate(documents)]
    lines = _one_each(lines)
    answering = {name for name, _ in documents}
    ages = {peer.name: peer.age_s for peer in control.exchange.known()}
    for line in lines[1:]:
        line["lag_s"] = ages.get(line["name"])
    silent = {p.name: p for p in control.exchange.known() if p.name not in answering}
    lines += [_silent(peer.card) | {"lag_s": peer.age_s} for peer in silent.values()]
    gone = await control.attendance.gone({*answering, *silent})
    lines += [_gone(control.chronicle.history, card) for card in gone]
    return reply({"data": lines, "differences": fleetwide.differences(documents), "fleet": heard.about(me)})


def _gone(history: History, card: dict[str, Any]) -> dict[str, Any]:
    """One that died: since when, if a router was there to hear its last word, else when it last left one in the store,
    which is up to a quarter of a minute before its end."""
    last = history.last(vanished.KIND, card["name"])
    since_s = last.at_s if last is not None and last.after == vanished.GONE else None
    return _silent(card) | {"lag_s": None, "gone_since_s": since_s, "last_word_s": card["at_s"]}


#: what a line of listRouters has of the status of a router
_OF_ROUTER = (
    "name",
    "region",
    "version",
    "config_hash",
    "config_generation",
    "uptime_s",
    "ready",
    "not_ready",
    "config_refused",
)


def _router(document: dict[str, Any], lag_s: float | None, *, here: bool) -> dict[str, Any]:
    line = {name: document["router"][name] for name in _OF_ROUTER} | {"this": here, "answers": True, "lag_s": lag_s}
    line |= {"gone_since_s": None, "last_word_s": None}
    inflight, store = document["traffic"]["inflight"], document["store"]["state"]
    return line | {"inflight": inflight, "store": store, "backends": document["backends"]}


def _one_each(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The workers of a router are one: their requests in flight are added, and it is ready if one of them is."""
    routers: dict[str, dict[str, Any]] = {}
    for line in lines:
        known = routers.setdefault(line["name"], line)
        if known is not line:
            known["inflight"] += line["inflight"]
            if line["ready"] and not known["ready"]:
                known |= {"ready": True, "not_ready": None}
    return list(routers.values())


def _silent(card: dict[str, Any]) -> dict[str, Any]:
    line = {name: card.get(name) for name in (*_OF_ROUTER, "inflight", "store", "backends")}
    return line | {"this": False, "answers": False, "gone_since_s": None, "last_word_s": None}


ROUTER = Param("router", "string", "Only this router, by its name; `.` is the one that is asked. Without: all.")
_BACK = Param("since_s", "number", f"How far to look back, in seconds (60 to {minutes.KEPT_S}, default 3600).")
_BY = Param("by", "string", f"Some of {', '.join(minutes.GROUPS)}, separated by commas. Default: model.")
_SORT = Param("sort", "string", f"The largest first: {', '.join(minutes.SORTS)}. Default: requests.")
_WINDOW = Param(
    "window_s", "number", f"How far to look back, in seconds (1 to {WINDOW_S_MAX}, default {WINDOW_S:.0f})."
)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", "healthz", "Is this process alive?", healthz, open=True),
    Route("GET", "/readyz", "readyz", "Should this router get traffic? 503 if not.", readyz, open=True),
    Route("GET", "/metrics", "metrics", "Metrics for Prometheus.", metrics, content_type="text/plain"),
    Route("GET", f"{V1}/openapi.json", "openapi", "This document.", describe),
    Route("GET", f"{V1}/status", "status", "The router and its fleet at a glance.", status, query=(ROUTER,)),
    Route(
        "GET",
        f"{V1}/usage",
        "usage",
        "Requests, tokens, first tokens and cost of up to a day, by what one likes.",
        usage,
        query=(_BACK, _BY, _SORT, ROUTER),
    ),
    Route("GET", f"{V1}/routers", "listRouters", "Every router that shares the store.", list_routers),
    Route(
        "GET", f"{V1}/stats", "stats", "Requests by region, model, tenant and cause.", stats, query=(_WINDOW, ROUTER)
    ),
)
