"""The admin listener: its own port, its own token, none of the client surface's code."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from aiohttp import web

from router.control.callers import deed, noting
from router.control.gauges import samples
from router.control.guard import Guard
from router.control.openapi import openapi
from router.control.operators import Operators
from router.control.plane import ControlPlane
from router.control.replies import failure, router_failure
from router.control.route import CONTROL, DOCUMENT, OPERATORS, Route
from router.control.routes import ROUTES
from router.errors import ConfigError, RouterError
from router.wire.shared_port import Turn, is_shared

_log = logging.getLogger("router.control")

_BODY_BYTES_MAX = 1024 * 1024
_GUARD: web.AppKey[Guard] = web.AppKey("guard", Guard)

_NO_SUCH_PATH = "There is no such path; /admin/v1/openapi.json lists them all."
#: What can only be deleted is not there for anything else: backends/nope/resume looks like a backend's name.
_ONLY_DELETE = frozenset({"DELETE"})

WebHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def start_admin(
    control: ControlPlane, listener: socket.socket, operators: Operators, *, more: Sequence[Route] = ()
) -> web.AppRunner:
    """Serve operators on a listening socket. ``cleanup()`` of the runner ends it. ``more`` routes are not described."""
    return await serve(make_app(control, operators, more=more), listener)


async def serve(app: web.Application, listener: socket.socket) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0, handle_signals=False)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    if listener.family != socket.AF_UNIX and is_shared(listener):
        Turn(listener)
    return runner


def make_app(control: ControlPlane, operators: Operators, *, more: Sequence[Route] = ()) -> web.Application:
    guard = Guard(operators, control.now_s)
    guard.note = control.chronicle.history.note
    app = bare_app(guard, control.version)
    app[CONTROL] = control
    control.telemetry.metrics.add_source(lambda: samples(control))
    for route in (*ROUTES, *more):
        add_route(app, route, partial(_handle, route))
    return app


def bare_app(guard: Guard, version: str) -> web.Application:
    """An application with everything but its routes."""
    app = web.Application(middlewares=[_errors, _guard], client_max_size=_BODY_BYTES_MAX)
    app[_GUARD] = guard
    app[OPERATORS] = guard.operators
    app[DOCUMENT] = openapi(ROUTES, version)
    return app


def add_route(app: web.Application, route: Route, handler: WebHandler) -> None:
    if route.method == "GET":
        app.router.add_get(route.path, handler, name=route.name)
    else:
        app.router.add_route(route.method, route.path, handler, name=route.name)


_OPEN = frozenset(route.name for route in ROUTES if route.open)
_NEEDS = {route.name: route.needs for route in ROUTES}


async def _handle(route: Route, request: web.Request) -> web.StreamResponse:
    control = request.app[CONTROL]
    if not route.writes:
        return await route.handler(request, control)
    ended = "failed"
    try:
        response = await route.handler(request, control)
        ended = str(response.status)
    except RouterError as error:
        ended = error.code
        raise
    except ConfigError:
        ended = "invalid_config"
        raise
    finally:
        noting(request, control)(
            "operator", f"{request.method} {request.path}", after=ended, why=deed(request, route.name)
        )
    return response


@web.middleware
async def _guard(request: web.Request, handler: WebHandler) -> web.StreamResponse:
    """Every path needs a token, unknown ones too, except the routes that are marked open."""
    name = request.match_info.route.name
    if name not in _OPEN:
        refusal = request.app[_GUARD].refusal(request, _NEEDS.get(name or "", "read"))
        if refusal is not None:
            return refusal
    return await handler(request)


@web.middleware
async def _errors(request: web.Request, handler: WebHandler) -> web.StreamResponse:
    """Whatever goes wrong is answered in one shape, and nothing of the inside shows."""
    try:
        return await handler(request)
    except RouterError as exc:
        return router_failure(exc)
    except ConfigError as exc:
        return failure("invalid_config", problems=exc.problems)
    except web.HTTPRequestEntityTooLarge:
        return failure("body_too_large", "The body is over 1 MiB.")
    except web.HTTPMethodNotAllowed as exc:
        if exc.allowed_methods == _ONLY_DELETE:
            return failure("not_found", _NO_SUCH_PATH)
        response = failure("method_not_allowed")
        response.headers["Allow"] = ", ".join(sorted(exc.allowed_methods))
        return response
    except web.HTTPNotFound:
        return failure("not_found", _NO_SUCH_PATH)
    except web.HTTPException as exc:
        return failure("invalid_request", exc.reason)
    except Exception:
        _log.exception("admin request %s failed", request.path)
        return failure("internal")
