"""What a worker answers to the process in front of it, on its private socket, beside the admin API."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from aiohttp import web

from router.config import Config
from router.control.fleetwide import ASKED
from router.control.inputs import number, usage_of
from router.control.plane import ControlPlane
from router.control.reload import Refused
from router.control.replies import reply
from router.control.route import Route
from router.control.routes import ROUTES, fleet, quotas
from router.telemetry.history import Note
from router.telemetry.stats import WINDOW_S, WINDOW_S_MAX


@dataclass(frozen=True, slots=True)
class Adoption:
    """A configuration that a worker is told to put in force."""

    config: Config
    generation: int


async def window(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    """The counts of the last seconds, to be merged with those of other workers."""
    control.telemetry.flush()
    last = control.telemetry.stats.last(number(request, "window_s", WINDOW_S, low=1, high=WINDOW_S_MAX))
    return web.Response(body=msgspec.msgpack.encode(last), content_type="application/msgpack")


async def adopt_config(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    """Put in force what the process in front has read and checked."""
    adoption = msgspec.json.decode(await request.content.read(), type=Adoption)
    await control.reloader.adopt(adoption.config, adoption.generation)
    return reply({"generation": control.reloader.generation})


async def note_refused(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    """Know what the process in front has read and refused: other routers ask a worker."""
    control.reloader.refused = msgspec.json.decode(await request.content.read(), type=Refused | None)
    return reply({})


async def note_event(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    """Write into the history what the process in front has seen."""
    told = msgspec.json.decode(await request.content.read(), type=dict[str, str | None])
    kind, subject = told.pop("kind") or "", told.pop("subject") or ""
    note: Note = control.chronicle.history.note
    note(kind, subject, **told)
    return reply({})


async def minutes(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    """The counts of the last minutes, to be merged with those of other workers and routers."""
    control.telemetry.flush()
    usage = control.telemetry.minutes.usage(*usage_of(request))
    return web.Response(body=msgspec.msgpack.encode(usage), content_type="application/msgpack")


async def quota_use(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    """The use of keys in the last minute and the holdings of their limits, to be added to those of other routers."""
    return reply(quotas.own_use(control).document())


async def last_minute(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    """The requests that backends answered in the last minute, to be added to those of other routers."""
    return reply(fleet.answered(control))


WORKER_ROUTES: tuple[Route, ...] = (
    Route("GET", "/worker/v1/minutes", "minutes", "Counts by the minute that can be merged.", minutes),
    Route("GET", "/worker/v1/window", "window", "Counts that can be merged.", window),
    Route("GET", "/worker/v1/quotas", "quotaUse", "The use of keys and the holdings for them.", quota_use),
    Route(
        "GET", "/worker/v1/answered", "lastMinute", "Requests that backends answered in the last minute.", last_minute
    ),
    Route("PUT", "/worker/v1/config", "adoptConfig", "Put a configuration in force.", adopt_config, role="read"),
    Route("PUT", "/worker/v1/refused", "noteRefused", "Know of a file that was refused.", note_refused, role="read"),
    Route("POST", "/worker/v1/event", "noteEvent", "Write into the history.", note_event, role="read"),
)

#: How the questions of other routers are answered.
ANSWERED = {route.name: route.handler for route in (*ROUTES, *WORKER_ROUTES) if route.name in ASKED}
