"""The configuration in force, its reload, and the policies it can name."""

from __future__ import annotations

from aiohttp import web

from router.control import config_views, views
from router.control.callers import who_of
from router.control.inputs import document_of
from router.control.plane import ControlPlane
from router.control.replies import listing, reply
from router.control.route import V1, Route
from router.errors import RouterError


async def show_config(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(config_views.config(control.reloader))


async def reload_config(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    result = await control.reloader.reload("admin API", who=who_of(request))
    keys = [views.key(k) for k in await control.store.list_keys()]
    return reply(config_views.reloaded(result, control.reloader.config, keys))


async def check_config(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    result = await control.reloader.check(*await config_text(request))
    keys = [views.key(k) for k in await control.store.list_keys()]
    return reply(config_views.checked(result, keys))


async def config_text(request: web.Request) -> tuple[str, str | None]:
    """The text of a configuration file that the body holds, and the name of the file if it is told."""
    document = await document_of(request, _TEXT)
    text, name = document.get("text"), document.get("name")
    if not isinstance(text, str):
        raise RouterError("invalid_request", "text must be the text of a configuration file.", param="text")
    return text, name if isinstance(name, str) else None


async def list_policies(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing(views.policies(control.reloader.config.router.policy))


_NAME = {"type": "string", "description": "Of the file, for the places of problems. Default: the router's."}
_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}, "name": _NAME}}

ROUTES: tuple[Route, ...] = (
    Route("GET", f"{V1}/config", "showConfig", "The configuration in force, without secrets.", show_config),
    Route("POST", f"{V1}/config/reload", "reloadConfig", "Read the file again; 422 if it is wrong.", reload_config),
    Route(
        "POST",
        f"{V1}/config/check",
        "checkConfig",
        "What this text would change in place of the file; 422 if it is wrong. Changes nothing.",
        check_config,
        body=_TEXT,
        changes=False,
    ),
    Route("GET", f"{V1}/policies", "listPolicies", "The routing policies.", list_policies),
)
