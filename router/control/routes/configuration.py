"""The configuration in force, its reload, and the policies it can name."""

from __future__ import annotations

from aiohttp import web

from router.control import views
from router.control.callers import who_of
from router.control.plane import ControlPlane
from router.control.replies import listing, reply
from router.control.route import V1, Route


async def show_config(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(views.config(control.reloader))


async def reload_config(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    result = await control.reloader.reload("admin API", who=who_of(request))
    keys = [views.key(k) for k in await control.store.list_keys()]
    return reply(views.reloaded(result, control.reloader.config, keys))


async def list_policies(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing(views.policies(control.reloader.config.router.policy))


ROUTES: tuple[Route, ...] = (
    Route("GET", f"{V1}/config", "showConfig", "The configuration in force, without secrets.", show_config),
    Route("POST", f"{V1}/config/reload", "reloadConfig", "Read the file again; 422 if it is wrong.", reload_config),
    Route("GET", f"{V1}/policies", "listPolicies", "The routing policies.", list_policies),
)
