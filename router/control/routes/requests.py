"""Requests that ended, listed or as they end, and why a request goes where it goes."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import orjson
from aiohttp import web

from router.control import views
from router.control.inputs import document_of, number, record_filter, text_of
from router.control.plane import ControlPlane
from router.control.replies import listing, reply
from router.control.route import V1, Param, Route
from router.errors import RouterError
from router.telemetry.journal import Record

REQUESTS_MAX = 1000
_TAIL_KEEPALIVE_S = 15.0


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


_FILTERS = (
    Param("model", "string", "Only requests for this model."),
    Param("tenant", "string", "Only requests of this tenant."),
    Param("backend", "string", "Only requests whose last attempt was at this backend or region."),
    Param("status", "string", "Only this HTTP status, or a class such as 5xx."),
)


_LIMIT = Param("limit", "integer", f"At most this many, newest first (1 to {REQUESTS_MAX}, default 50).")


_SINCE = Param("since_s", "number", "Only requests that arrived after this time: seconds since 1970.")


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        f"{V1}/requests",
        "listRequests",
        "The last requests.",
        list_requests,
        query=(_LIMIT, *_FILTERS, _SINCE),
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
    Route("POST", f"{V1}/explain", "explain", "Where would it go, and why? Sends nothing.", explain, body=_EXPLAIN),
)


def _find_record(control: ControlPlane, request_id: str) -> Record:
    if (record := control.telemetry.journal.find(request_id)) is None:
        raise RouterError("not_found", "No such request among the last ones; the journal may have moved on.")
    return record
