"""Reads the claims of a JWT: the tenant that is charged, and the plan. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from router.config import JwtSection
from router.core.scopes import JWT_PREFIX
from router.errors import RouterError

_TEXT_MAX = 200
#: A tenant that names its account as it is: nothing in it means anything to the store.
_PLAIN = re.compile(r"[A-Za-z0-9._@-]{1,64}")
ACCOUNT = JWT_PREFIX


class Bearer(NamedTuple):
    tenant: str
    plan: str
    name: str


def bearer_of(claims: Mapping[str, Any], section: JwtSection) -> Bearer:
    """Raises RouterError("forbidden") for a JWT that names no tenant."""
    tenant = _text(_at(claims, section.tenant_claim))
    if tenant is None:
        raise RouterError("forbidden", f"The JWT has no claim {section.tenant_claim} that names its tenant.")
    return Bearer(tenant, _plan(claims, section), _text(claims.get("sub")) or tenant)


def account_of(tenant: str) -> str:
    """The account of a tenant that came with a JWT: one for all its JWTs."""
    if _PLAIN.fullmatch(tenant):
        return ACCOUNT + tenant
    return f"{ACCOUNT}sha256:{hashlib.sha256(tenant.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _plan(claims: Mapping[str, Any], section: JwtSection) -> str:
    """The first row of the map whose value the claim has; without a map the claim names the plan itself."""
    if section.plan_claim is None:
        return section.default_plan
    found = _at(claims, section.plan_claim)
    values = [text for value in (found if isinstance(found, list) else [found]) if (text := _text(value)) is not None]
    if section.plan_map:
        return next((row.plan for row in section.plan_map if row.value in values), section.default_plan)
    return values[0] if values else section.default_plan


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, else what dots lead to: ``org.id``. Names may have dots, as those with an address do."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= _TEXT_MAX or not value.isprintable():
        return None
    return value
