"""How far limits are used, and who spends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any

from aiohttp import web

from router import clock
from router.control import fleetwide, quota_views, spenders
from router.control.callers import noting
from router.control.last_minute import Use, used
from router.control.plane import ControlPlane
from router.control.replies import reply
from router.control.route import V1, Param, Route
from router.control.unknown import keys_of
from router.core.limits import KINDS, MICRO, NAMES, NOTHING, Shape, Units
from router.core.scopes import DEFAULT_TENANT, TENANT
from router.core.spending import Sums
from router.core.suggest import did_you_mean
from router.errors import RouterError
from router.identity.claims import ACCOUNT
from router.store.base import ANONYMOUS, Key
from router.store.courier import LinkError
from router.store.groups import Groups, LimitGroup

_KEYS_MAX = 200
_ROWS_MAX = 5000

Holder = Key | LimitGroup


async def list_quotas(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    known = await _known(control)
    holders = known.asked(request.query)
    heard, told = await _of_all(request, control)
    budgets = [each.id for each in holders if each.plan.limits.money]
    if budgets:
        await control.bookkeeper.flush()
    paces = await spenders.paces(control, budgets) if budgets else {}
    plans = known.plans
    asked = (_quota(control, h, told, paces.get(h.id), plans.get(h.id, ())) for h in holders)
    data = await asyncio.gather(*asked)  # one way to a far store and back, not one for each of them
    return reply({"data": data, "fleet": heard.about(control.reloader.config.router.name)})


async def _quota(
    control: ControlPlane, holder: Holder, told: OwnUse, pace: float | None, plans: Sequence[str] = ()
) -> dict[str, Any]:
    limits = await control.store.quota(holder, told.held.get(holder.id, NOTHING))
    return quota_views.quota(holder, limits, told.uses.get(holder.id), pace, plans)


async def reset_quota(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    holder = (await _known(control)).account(request.match_info["key_id"])
    what = request.query.get("what", "all")
    if what not in _RESETS:
        raise RouterError("invalid_request", f"what is one of {', '.join(_RESETS)}.", param="what")
    await control.store.reset_quota(holder, _RESETS[what])
    if what != "minute":
        try:
            await control.store.spending.forget(holder.id, clock.wall_s())
        except LinkError:
            raise RouterError("store_unavailable") from None
    told = holder.name if what == "all" else f"{holder.name}: {what}"
    noting(request, control)("quota", holder.id, after="reset", why=told)
    _, shares = await _of_all(request, control)
    return reply(await _quota(control, holder, shares, None))


async def _known(control: ControlPlane) -> _Known:
    config, store = control.reloader.config, control.store
    known = await (store.list_keys() if config.auth.mode == "open" else keys_of(store))
    keys = [key for key in known if not key.revoked]
    rows = await spenders.month_rows(control) if config.jwt.jwks is not None else {}
    bearers = spenders.jwt_holders(rows, config)
    tenants = {row.tenant for row in rows if row.key_id.startswith(ACCOUNT)}
    return _Known(control, keys, bearers, tenants, spenders.jwt_plans(rows))


class _Known:
    """Everybody whose limits can be asked for. Accounts of JWTs are known by what they used this month, and ``plans``
    are theirs."""

    def __init__(
        self,
        control: ControlPlane,
        keys: list[Key],
        bearers: list[Key],
        tenants: set[str],
        plans: dict[str, list[str]],
    ) -> None:
        self.plans = plans
        config = control.reloader.config
        self._keys = keys
        self._bearers = bearers
        self._groups = Groups(config)
        self._tenants = {key.tenant for key in keys} | tenants
        if config.auth.mode == "open":
            self._tenants.add(ANONYMOUS)
        self._named = self._tenants | (set(config.tenants) - {DEFAULT_TENANT})
        self._template = DEFAULT_TENANT in config.tenants

    def asked(self, query: Any) -> list[Holder]:
        """A key and the groups that bound it besides models, a tenant and its keys, one account, or all."""
        if account := query.get("account"):
            return [self.account(account)]
        if key_id := query.get("key"):
            if (key := self._key(key_id)) is None:
                raise RouterError("not_found", "There is no key with this id.")
            return [key, *self._groups.company(key.tenant, "", "").groups]
        if tenant := query.get("tenant"):
            return self._tenant(tenant)
        return [*self._keys[:_KEYS_MAX], *self._bearers[:_KEYS_MAX], *self._groups.every(self._tenants)]

    def _tenant(self, tenant: str) -> list[Holder]:
        if tenant not in self._named:
            if tenant == DEFAULT_TENANT and self._template:
                raise RouterError("not_found", "[tenants.default] has the limits of each tenant without a table.")
            raise RouterError("not_found", f"There is no key and no tenant {tenant[:80]!r}{self._like(tenant)}")
        group = self._groups.tenant(tenant)
        own = [key for key in (*self._keys, *self._bearers) if key.tenant == tenant]
        return [*([group] if group is not None else []), *own[:_KEYS_MAX]]

    def account(self, account: str) -> Holder:
        """``account``: a key's id, ``tenant:NAME``, ``model:NAME`` or ``all``."""
        if (key := self._key(account)) is not None:
            return key
        group = self._groups.find(account)
        scope, _, name = account.partition(":")
        if group is None or (scope == "tenant" and name not in self._named):
            what = "There is no key with this id, and no tenant or model with limits"
            raise RouterError("not_found", f"{what}{self._like(account)}")
        return group

    def _key(self, key_id: str) -> Key | None:
        return next((key for key in (*self._keys, *self._bearers) if key.id == key_id), None)

    def _like(self, text: str) -> str:
        """Words for the name that may have been meant."""
        accounts = [group.id for group in self._groups.every(self._tenants)]
        names = [*self._named, *(key.name for key in self._keys), *(key.id for key in self._bearers), *accounts]
        if (tenant := TENANT.account(text)) in accounts:
            return f', did you mean "{tenant}"?'
        return did_you_mean(text, [name for name in dict.fromkeys(names) if name != text]) or "."


@dataclass(slots=True)
class OwnUse:
    """All that a router alone knows of limits: the use of keys here in the last minute, by key, and the units held here
    ahead of need, by account."""

    uses: dict[str, Use] = field(default_factory=dict)
    held: dict[str, Units] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "uses": {key_id: use.document() for key_id, use in self.uses.items()},
            "held": {account: dict(zip(NAMES, held, strict=True)) for account, held in self.held.items()},
        }

    def add(self, document: dict[str, Any]) -> None:
        """Add what another router tells, which may be of another version."""
        for key_id, use in document["uses"].items():
            self.uses[key_id] = self.uses.get(key_id, Use()).plus(Use(use["requests"], use["tokens"], use["refused"]))
        for account, held in document["held"].items():
            more = (int(held.get(name, 0)) for name in NAMES)
            self.held[account] = tuple(map(add, self.held.get(account, NOTHING), more))


def own_use(control: ControlPlane) -> OwnUse:
    control.telemetry.flush()
    return OwnUse(used(control.telemetry.journal.newest_first(), clock.wall_s()), control.store.held())


async def _of_all(request: web.Request, control: ControlPlane) -> tuple[fleetwide.Heard, OwnUse]:
    """The words of all routers. Of holdings those of the others: the store of this router knows its own."""
    heard = await fleetwide.ask(control, request, "quotaUse")
    told = OwnUse(own_use(control).uses)
    for _, document in heard.documents():
        told.add(document)
    return heard, told


async def list_spending(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    period = spenders.PERIODS.get(request.query.get("period", "month"))
    if period is None:
        raise RouterError("invalid_request", f"period is one of {', '.join(spenders.PERIODS)}.", param="period")
    by = tuple(dict.fromkeys(filter(None, request.query.get("by", "tenant,model").split(","))))
    for name in by:
        if name not in spenders.BY:
            hint = did_you_mean(name, spenders.BY) or "."
            raise RouterError("invalid_request", f"Add up by some of {', '.join(spenders.BY)}{hint}", param="by")
    text = request.query.get("of")
    number = period.number(int(clock.wall_s() * MICRO)) if text is None else spenders.number_of(period, text)
    if number is None:
        present = spenders.name_of(period, period.number(int(clock.wall_s() * MICRO)))
        detail = f"of must be a {period.name} such as {present}."
        raise RouterError("invalid_request", detail, param="of")
    await control.bookkeeper.flush()
    try:
        rows = await control.store.spending.rows(period, number)
    except LinkError:
        raise RouterError("store_unavailable") from None
    named = {"period": period.name, "of": spenders.name_of(period, number)}
    return reply(named | await _spending(control, spenders.summed(rows, by), by))


async def _spending(control: ControlPlane, sums: dict[tuple[str, ...], Sums], by: tuple[str, ...]) -> dict[str, Any]:
    total = Sums()
    for each in sums.values():
        total = total.plus(each)
    names = {key.id: key.name for key in await control.store.list_keys()}
    largest = sorted(sums.items(), key=lambda item: (-item[1].microusd, -item[1].requests, item[0]))
    data = []
    for group, each in largest[:_ROWS_MAX]:
        row: dict[str, Any] = dict(zip(by, (name or None for name in group), strict=True))
        if "key" in row:
            row["key_name"] = names.get(row["key"] or "")
        data.append(row | spenders.document(each, total))
    return {"by": list(by), "total": spenders.document(total, total), "data": data}


#: What of a key's use is forgotten: the names of the kinds of limits.
_RESETS = {
    "minute": frozenset(kind.name for kind in KINDS if kind.shape is Shape.RATE),
    "month": frozenset(kind.name for kind in KINDS if kind.shape is Shape.SUM),
    "all": frozenset(NAMES),
}
_WHAT = Param("what", "string", "minute: the rates. month: the spending of the month and day. all: both, the default.")
_KEY = Param("key", "string", "Only the limits of this key's id, of its tenant and of all requests together.")
_TENANT = Param("tenant", "string", "Only the limits of this tenant and of its keys.")
_ACCOUNT = Param("account", "string", "Only these: a key's id, `tenant:NAME`, `model:NAME` or `all`.")
_PERIOD = Param("period", "string", "day or month, the default.")
_OF = Param("of", "string", "The day or month (UTC), as in 2026-11-30 or 2026-11. Default: the present one.")
_BY = Param("by", "string", f"Some of {', '.join(spenders.BY)}, separated by commas. Default: tenant,model.")


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        f"{V1}/quotas",
        "listQuotas",
        "How far limits are used: of keys, of tenants, of models and of all requests together; of budgets also what "
        "will have been used at the end of the day or month.",
        list_quotas,
        query=(_KEY, _TENANT, _ACCOUNT),
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
    Route(
        "GET",
        f"{V1}/spending",
        "listSpending",
        "Requests, tokens and dollars of a day or month, by what one likes, the dearest first.",
        list_spending,
        query=(_PERIOD, _OF, _BY),
    ),
)
