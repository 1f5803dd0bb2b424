"""API keys and how far their limits are used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from router import clock
from router.control import views
from router.control.callers import noting
from router.control.inputs import document_of, expiry_of, span_in, text_of
from router.control.last_minute import Use, used
from router.control.plane import ControlPlane
from router.control.replies import listing, reply
from router.control.route import V1, Param, Route
from router.core.limits import KINDS, NAMES, Shape
from router.errors import RouterError
from router.store.base import ANONYMOUS, Key
from router.store.groups import Groups, LimitGroup

_KEYS_MAX = 200
_OVERLAP_S = 86_400.0
_OVERLAP_S_MAX = 365 * 86_400.0
_NO_KEY = "There is no key with this id."


async def list_keys(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return listing([views.key(k) for k in await control.store.list_keys()])


async def create_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    document = await document_of(request, _NEW_KEY)
    name = text_of(document, "name", required=True)
    plan = _plan(control, text_of(document, "plan") or "default")
    tenant = text_of(document, "tenant") or None
    expires_s = expiry_of(document, clock.wall_s())
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
    noting(request, control)(
        "key", key.id, after="new secret", why=f"{key.name}; the old one works for {overlap_s:g} s"
    )
    return reply(views.key(key) | {"key": secret})


async def revoke_key(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    key = await _find_key(control, request.match_info["key_id"])
    await control.store.revoke_key(key.id)
    noting(request, control)("key", key.id, before="valid", after="revoked", why=key.name)
    return reply(views.key(await _find_key(control, key.id)))


async def list_quotas(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    holders = await _holders(control, request.query.get("key"), request.query.get("tenant"))
    uses = _uses(control)
    return listing([views.quota(each, await control.store.quota(each), uses.get(each.id)) for each in holders])


async def _holders(control: ControlPlane, key_id: str | None, tenant: str | None) -> list[Key | LimitGroup]:
    """A key and the groups that bound it besides models, a tenant and its keys, or all."""
    groups = Groups(control.reloader.config)
    if key_id:
        key = await _find_key(control, key_id)
        return [key, *groups.company(key.tenant, "", "").groups]
    keys = [key for key in await control.store.list_keys() if not key.revoked]
    if tenant:
        own, group = [key for key in keys if key.tenant == tenant], groups.tenant(tenant)
        if not own and group is None:
            raise RouterError("not_found", "No key has this tenant.")
        return [*([group] if group is not None else []), *own[:_KEYS_MAX]]
    return [*keys[:_KEYS_MAX], *groups.every(_tenants(control, keys))]


def _tenants(control: ControlPlane, keys: Iterable[Key]) -> set[str]:
    """Tenants that may have used something."""
    found = {key.tenant for key in keys}
    return found | {ANONYMOUS} if control.reloader.config.auth.mode == "open" else found


async def reset_quota(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    holder = await _find_holder(control, request.match_info["key_id"])
    what = request.query.get("what", "all")
    if what not in _RESETS:
        raise RouterError("invalid_request", f"what is one of {', '.join(_RESETS)}.", param="what")
    await control.store.reset_quota(holder, _RESETS[what])
    told = holder.name if what == "all" else f"{holder.name}: {what}"
    noting(request, control)("quota", holder.id, after="reset", why=told)
    return reply(views.quota(holder, await control.store.quota(holder), _uses(control).get(holder.id)))


async def _find_holder(control: ControlPlane, account: str) -> Key | LimitGroup:
    """``account``: a key's id, ``tenant:NAME``, ``model:NAME`` or ``all``."""
    if (key := await control.store.get_key(account)) is not None:
        return key
    group = Groups(control.reloader.config).find(account)
    if group is None:
        raise RouterError("not_found", "There is no key with this id, and no tenant or model with limits.")
    return group


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
#: What of a key's use is forgotten: the names of the kinds of limits.
_RESETS = {
    "minute": frozenset(kind.name for kind in KINDS if kind.shape is Shape.RATE),
    "month": frozenset(kind.name for kind in KINDS if kind.shape is Shape.SUM),
    "all": frozenset(NAMES),
}
_WHAT = Param("what", "string", "minute: the rates. month: the spending of the month and day. all: both, the default.")
_KEY = Param("key", "string", "Only the limits of this key's id, of its tenant and of all requests together.")
_TENANT = Param("tenant", "string", "Only the limits of this tenant and of its keys.")


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
    Route(
        "GET",
        f"{V1}/quotas",
        "listQuotas",
        "How far limits are used: of keys, of tenants, of models and of all requests together.",
        list_quotas,
        query=(_KEY, _TENANT),
    ),
    Route(
        "DELETE",
        f"{V1}/quotas/{{key_id}}",
        "resetQuota",
        "Reset the limits of a key, or of `tenant:NAME`, `model:NAME` or `all`.",
        reset_quota,
        query=(_WHAT,),
        role="admin",
    ),
)


def _uses(control: ControlPlane) -> dict[str, Use]:
    control.telemetry.flush()
    return used(control.telemetry.journal.newest_first(), clock.wall_s())


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
