"""API keys."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from router import clock
from router.control import views
from router.control.callers import noting
from router.control.inputs import document_of, expiry_of, span_in, text_of
from router.control.plane import ControlPlane
from router.control.replies import listing, reply
from router.control.route import V1, Route
from router.control.unknown import keys_of
from router.core.scopes import is_account
from router.core.suggest import no_such
from router.errors import RouterError
from router.moments import span_text
from router.store.base import Key

_OVERLAP_S = 86_400.0
_OVERLAP_S_MAX = 365 * 86_400.0
_NO_KEY = "There is no key with this id."


async def list_keys(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing([views.key(k) for k in await keys_of(control.store)])


async def create_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _NEW_KEY)
    name = _name(text_of(document, "name", required=True))
    plan = _plan(control, text_of(document, "plan") or "default")
    tenant = text_of(document, "tenant") or None
    expires_s = expiry_of(document, now_s := clock.wall_s())
    if expires_s is not None and expires_s <= now_s:
        raise RouterError("invalid_request", "expires is in the past: the key would never work.", param="expires")
    key, secret = await control.store.create_key(name, plan, tenant, expires_s=expires_s)
    noting(request, control)("key", key.id, after="created", why=f"{key.name}, plan {key.plan.name}")
    shown = views.key(key)
    entry = {name: shown[name] for name in ("id", "name", "tenant", "plan", "expires", "expires_s")}
    return reply(entry | {"key": secret}, 201)


async def show_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(views.key(await _find_key(control, request.match_info["key_id"])))


async def change_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _KEY_FIELDS)
    changes: dict[str, str | float | None] = {}
    for name in document:
        if name == "expires":
            changes["expires_s"] = expiry_of(document, clock.wall_s())
        else:
            changes[name] = text = text_of(document, name, required=True)
            if name == "plan":
                _plan(control, text)
            elif name == "name":
                _name(text)
    if (key := await control.store.change_key(request.match_info["key_id"], changes)) is None:
        raise RouterError("not_found", _NO_KEY)
    told = ", ".join(f"{name} {value}" for name, value in changes.items())
    noting(request, control)("key", key.id, after="changed", why=f"{key.name}: {told}")
    return reply(views.key(key))


async def rotate_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _ROTATION)
    overlap_s = span_in(document, "overlap", _OVERLAP_S, most_s=_OVERLAP_S_MAX)
    key = await _find_key(control, request.match_info["key_id"])
    if key.revoked:
        raise RouterError("invalid_request", "This key is revoked. Make a new one.")
    if (made := await control.store.rotate_key(key.id, overlap_s)) is None:
        raise RouterError("not_found", _NO_KEY)
    key, secret = made
    old = f"the old one works for {span_text(overlap_s)}" if overlap_s else "the old one stopped working"
    noting(request, control)("key", key.id, after="new secret", why=f"{key.name}; {old}")
    return reply(views.key(key) | {"key": secret})


async def revoke_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    key = await _find_key(control, request.match_info["key_id"])
    await control.store.revoke_key(key.id)
    if not key.revoked:
        noting(request, control)("key", key.id, before="valid", after="revoked", why=key.name)
    return reply(views.key(await _find_key(control, key.id)))


_EXPIRES = "When it expires: an ISO time, a span from now such as 30d, or never."
_KEY_FIELDS: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("name", "plan", "tenant")}
    | {"expires": {"type": "string", "description": _EXPIRES}},
}
_ROTATION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "overlap": {
            "type": ["string", "number"],
            "description": "How long secrets before the new one still work: 24h, 0. Default: 24h.",
        }
    },
}

_NEW_KEY: dict[str, Any] = _KEY_FIELDS | {"required": ["name"]}

ROUTES: tuple[Route, ...] = (
    Route("GET", f"{V1}/keys", "listKeys", "Every API key, without its secret.", list_keys),
    Route("POST", f"{V1}/keys", "createKey", "Make an API key.", create_key, body=_NEW_KEY, status=201, role="admin"),
    Route("GET", f"{V1}/keys/{{key_id}}", "showKey", "One API key.", show_key),
    Route(
        "PATCH",
        f"{V1}/keys/{{key_id}}",
        "changeKey",
        "Give an API key another plan, tenant, name or expiry.",
        change_key,
        body=_KEY_FIELDS,
        role="admin",
    ),
    Route(
        "POST",
        f"{V1}/keys/{{key_id}}/rotate",
        "rotateKey",
        "Give an API key a new secret. It stays one key, with what it has used.",
        rotate_key,
        body=_ROTATION,
        role="admin",
    ),
    Route("DELETE", f"{V1}/keys/{{key_id}}", "revokeKey", "Revoke an API key.", revoke_key, role="admin"),
)


async def _find_key(control: ControlPlane, key_id: str) -> Key:
    if (key := await control.store.get_key(key_id)) is None:
        raise RouterError("not_found", _NO_KEY)
    return key


def _name(text: str) -> str:
    """A name that is not how limits of something else are asked for."""
    if is_account(text):
        detail = "name must not be all or begin with tenant:, model: or jwt:, for other limits are named so."
        raise RouterError("invalid_request", detail, param="name")
    return text


def _plan(control: ControlPlane, name: str) -> str:
    """The name of a plan there is."""
    if name not in control.reloader.config.plans:
        raise RouterError("invalid_request", no_such("plan", name, control.reloader.config.plans), param="plan")
    return name
