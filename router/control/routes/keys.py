"""API keys and how far their limits are used."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from router.control import views
from router.control.inputs import document_of, text_of
from router.control.plane import ControlPlane
from router.control.replies import listing, reply
from router.control.route import V1, Param, Route
from router.errors import RouterError
from router.store.base import Key

_KEYS_MAX = 200
_NO_KEY = "There is no key with this id."


async def list_keys(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing([views.key(k) for k in await control.store.list_keys()])


async def create_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _NEW_KEY)
    name = text_of(document, "name", required=True)
    plan = _plan(control, text_of(document, "plan") or "default")
    tenant = text_of(document, "tenant") or None
    key, secret = await control.store.create_key(name, plan, tenant)
    entry = {"id": key.id, "name": key.name, "tenant": key.tenant, "plan": key.plan.name, "key": secret}
    return reply(entry, 201)


async def show_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(views.key(await _find_key(control, request.match_info["key_id"])))


async def change_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _KEY_FIELDS)
    changes = {name: text_of(document, name, required=True) for name in document}
    if "plan" in changes:
        _plan(control, changes["plan"])
    if (key := await control.store.change_key(request.match_info["key_id"], changes)) is None:
        raise RouterError("not_found", _NO_KEY)
    return reply(views.key(key))


async def revoke_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    key = await _find_key(control, request.match_info["key_id"])
    await control.store.revoke_key(key.id)
    return reply(views.key(key) | {"revoked": True})


async def list_quotas(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    key_id = request.query.get("key")
    keys = [await _find_key(control, key_id)] if key_id else (await control.store.list_keys())[:_KEYS_MAX]
    return listing([views.quota(k, await control.store.quota(k)) for k in keys if key_id or not k.revoked])


async def reset_quota(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    key = await _find_key(control, request.match_info["key_id"])
    await control.store.reset_quota(key)
    return reply(views.quota(key, await control.store.quota(key)))


_KEY_FIELDS: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("name", "plan", "tenant")},
}


_NEW_KEY: dict[str, Any] = _KEY_FIELDS | {"required": ["name"]}
_KEY = Param("key", "string", "Only the limits of this key's id.")


ROUTES: tuple[Route, ...] = (
    Route("GET", f"{V1}/keys", "listKeys", "Every API key, without its secret.", list_keys),
    Route("POST", f"{V1}/keys", "createKey", "Make an API key.", create_key, body=_NEW_KEY, status=201),
    Route("GET", f"{V1}/keys/{{key_id}}", "showKey", "One API key.", show_key),
    Route(
        "PATCH",
        f"{V1}/keys/{{key_id}}",
        "changeKey",
        "Give an API key another plan, tenant or name.",
        change_key,
        body=_KEY_FIELDS,
    ),
    Route("DELETE", f"{V1}/keys/{{key_id}}", "revokeKey", "Revoke an API key.", revoke_key),
    Route("GET", f"{V1}/quotas", "listQuotas", "How far the limits of keys are used.", list_quotas, query=(_KEY,)),
    Route(
        "DELETE", f"{V1}/quotas/{{key_id}}", "resetQuota", "Reset the limits of a key: nothing is used.", reset_quota
    ),
)


async def _find_key(control: ControlPlane, key_id: str) -> Key:
    if (key := await control.store.get_key(key_id)) is None:
        raise RouterError("not_found", _NO_KEY)
    return key


def _plan(control: ControlPlane, name: str) -> str:
    """The name of a plan there is."""
    if name not in control.reloader.config.plans:
        known = ", ".join(sorted(control.reloader.config.plans))
        raise RouterError("invalid_request", f"There is no such plan. There are: {known}.", param="plan")
    return name
