"""Requests that ended, listed or as they end, and why a request goes where it goes."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from router import clock
from router.control import fleetwide, views
from router.control.filters import ORDERS, SUMMARY_ORDERS, RequestFilter, filter_of, oldest_first, take
from router.control.inputs import document_of, number, number_in, text_of
from router.control.plane import ControlPlane
from router.control.replies import reply
from router.control.route import V1, Param, Route
from router.control.routes.process import ROUTER
from router.core.suggest import did_you_mean
from router.core.what_if import WhatIf, added, decide_again
from router.errors import RouterError
from router.telemetry.journal import Record

REQUESTS_MAX = 1000
_TAIL_KEEPALIVE_S = 15.0


async def list_requests(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    match = await _filter(request, control)
    limit = int(number(request, "limit", 50, low=1, high=REQUESTS_MAX))
    order = request.query.get("sort", "time")
    if order not in ORDERS:
        hint = did_you_mean(order, ORDERS) or "."
        raise RouterError("invalid_request", f"Sort by one of {', '.join(ORDERS)}{hint}", param="sort")
    found, matching = take(control.telemetry.journal.newest_first(), match, order, limit)
    me = control.reloader.config.router.name
    heard = await fleetwide.ask(control, request, "listRequests")
    data = [views.request_summary(r) | {"router": me} for r in found] if heard.own else []
    told = heard.documents()
    if told:
        data += [entry for _, document in told for entry in document["data"]]
        data = sorted(data, key=SUMMARY_ORDERS[order], reverse=True)[:limit]
    matching = matching * heard.own + sum(document["matching"] for _, document in told)
    return reply({"data": data, "matching": matching, "fleet": heard.about(me)})


async def list_in_flight(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    limit = int(number(request, "limit", 100, low=1, high=REQUESTS_MAX))
    me = control.reloader.config.router.name
    heard = await fleetwide.ask(control, request, "listInFlight")
    found, count = control.in_flight(limit) if heard.own else ([], 0)
    data = [entry | {"router": me} for entry in found]
    for _, document in heard.documents():
        data += document["data"]
        count += document["count"]
    return reply({"data": oldest_first(data, limit), "count": count, "fleet": heard.about(me)})


async def show_request(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(await _shown(request, control, request.match_info["request_id"]))


async def _shown(request: web.Request, control: ControlPlane, request_id: str) -> dict[str, Any]:
    """A request that this router or another one has had. Raises RouterError if none that answers knows it."""
    me = control.reloader.config.router.name
    record = control.telemetry.journal.find(request_id)
    if record is not None and request.query.get("router") in (None, fleetwide.THIS, me):
        return _told(control, record)
    heard = await fleetwide.ask(control, request, "showRequest", {":request_id": request_id})
    for _, document in heard.documents():
        return dict(document)
    return _told(control, _find_record(control, request_id))


def _told(control: ControlPlane, record: Record) -> dict[str, Any]:
    """``recalled``: this router had the request before it was started again, and knows it by its diary."""
    began_s = clock.wall_s() - (control.now_s() - control.started_s)
    recalled = record.arrival_s + record.duration_s < began_s
    return views.request(record) | {"router": control.reloader.config.router.name, "recalled": recalled}


async def tail_requests(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    journal = control.telemetry.journal
    try:
        subscription = journal.subscribe(await _filter(request, control))
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


async def explain(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _EXPLAIN)
    what = _what_if(document)
    if "request_id" in document:
        shown = await _shown(request, control, text_of(document, "request_id", required=True))
        answer = {"request_id": shown["request_id"], "decision": shown.pop("decision"), "request": shown}
        return reply(answer | _decided_again(answer["decision"], what, control))
    text_of(document, "model", required=True)
    if isinstance(document.get("residency"), list):
        document["residency"] = ",".join(map(str, document["residency"]))
    explained = control.explain(document)
    answer = await explained if inspect.isawaitable(explained) else explained
    return reply(answer | _decided_again(answer["decision"], what, control))


def _what_if(document: dict[str, Any]) -> WhatIf:
    """Takes out of the body what is only thought of."""
    names, twins = document.pop("without", None) or (), document.pop("add", None) or ()
    if not all(isinstance(name, str) for name in (*names, *twins)):
        raise RouterError("invalid_request", "without and add are lists of names.", param="without")
    try:
        what = WhatIf(tuple(names), added(twins))
    except ValueError as error:
        raise RouterError("invalid_request", str(error), param="add") from None
    return replace(what, scale=number_in(document, "scale", 1.0, low=0.01, high=1000.0))


def _decided_again(decision: dict[str, Any], what: WhatIf, control: ControlPlane) -> dict[str, Any]:
    """Nothing of the fleet changes: only the candidates of the decision are looked at."""
    if not what:
        return {}
    candidates = decision.get("candidates")
    if not candidates and decision.get("policy") is None:
        detail = "No backend was looked for, so there is nothing to decide again; ask with a model how it would be now."
        raise RouterError("invalid_request", detail, param="request_id")
    if not candidates:
        detail = "The candidates of this decision are not kept any more; ask with a model how it would be now."
        raise RouterError("invalid_request", detail, param="request_id")
    if (problem := what.problem([c["backend"] for c in candidates])) is not None:
        raise RouterError("invalid_request", problem[1], param=problem[0])
    again = decide_again(candidates, what, control.fleet.params)
    return {"what_if": {"says": what.words(), "decision": {"policy": decision.get("policy"), **again}}}


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
        "without": {
            "type": "array",
            "items": {"type": "string"},
            "description": "As if these backends or regions were gone.",
        },
        "add": {"type": "array", "items": {"type": "string"}, "description": "As if these were there, too: NEW=LIKE."},
        "scale": {"type": "number", "description": "As if there were this many times as many requests."},
    },
}


_FILTERS = (
    Param("model", "string", "Only requests for this model."),
    Param("tenant", "string", "Only requests of this tenant."),
    Param("backend", "string", "Only requests whose last attempt was at this backend or region."),
    Param("region", "string", "Only requests whose last attempt was in this region."),
    Param("key", "string", "Only requests of the key with this id."),
    Param("status", "string", "Only this HTTP status, or a class such as 5xx."),
    Param("slower_than_s", "number", "Only streams with a later first token, and whole answers that took longer."),
)


_SORT = Param("sort", "string", f"The largest first, by one of {', '.join(ORDERS)} (default time: the newest).")


_LIMIT = Param("limit", "integer", f"At most this many, newest first (1 to {REQUESTS_MAX}, default 50).")


_LONGEST = Param("limit", "integer", f"At most this many, the oldest first (1 to {REQUESTS_MAX}, default 100).")


_SINCE = Param("since_s", "number", "Only requests that arrived after this time: seconds since 1970.")


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        f"{V1}/requests",
        "listRequests",
        "The last requests.",
        list_requests,
        query=(_LIMIT, *_FILTERS, _SINCE, _SORT, ROUTER),
    ),
    Route(
        "GET",
        f"{V1}/requests/in-flight",
        "listInFlight",
        "Requests on their way now, the oldest first, and what each one waits for.",
        list_in_flight,
        query=(_LONGEST, ROUTER),
    ),
    Route(
        "GET",
        f"{V1}/requests/tail",
        "tailRequests",
        "Requests as they finish: server-sent events named request.",
        tail_requests,
        query=_FILTERS,
        content_type="text/event-stream",
    ),
    Route(
        "GET",
        f"{V1}/requests/{{request_id}}",
        "showRequest",
        "One request: its attempts, and why it went where it went.",
        show_request,
    ),
    Route(
        "POST",
        f"{V1}/explain",
        "explain",
        "Where would it go, and why? Sends nothing.",
        explain,
        body=_EXPLAIN,
        role="read",
    ),
)


async def _filter(request: web.Request, control: ControlPlane) -> RequestFilter:
    return filter_of(request.query, control, await control.store.list_keys())


_NOT_FOUND = "Request not found: no router that answers has it, or it is older than the last {:,}."


def _find_record(control: ControlPlane, request_id: str) -> Record:
    if (record := control.telemetry.journal.find(request_id)) is None:
        raise RouterError("not_found", _NOT_FOUND.format(control.telemetry.journal.size))
    return record
