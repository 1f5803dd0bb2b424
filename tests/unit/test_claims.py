"""The tenant and the plan that the claims of a JWT say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import JwtSection, PlanOfClaim
from router.errors import RouterError
from router.identity.claims import account_of, bearer_of

MAP = (PlanOfClaim("admins", "gold"), PlanOfClaim("staff", "silver"))
GROUPS = JwtSection(plan_claim="groups", plan_map=MAP, default_plan="free")
DIRECT = JwtSection(plan_claim="org.plan", default_plan="free")


@pytest.mark.parametrize(
    ("section", "claims", "plan"),
    [
        (JwtSection(default_plan="free"), {"plan": "gold"}, "free"),
        (DIRECT, {"org": {"plan": "gold"}}, "gold"),
        (DIRECT, {"org.plan": "gold", "org": {"plan": "silver"}}, "gold"),
        (DIRECT, {}, "free"),
        (DIRECT, {"org": "plan"}, "free"),
        (DIRECT, {"org": {"plan": {"x": 1}}}, "free"),
        (DIRECT, {"org": {"plan": []}}, "free"),
        (GROUPS, {"groups": "staff"}, "silver"),
        (GROUPS, {"groups": ["staff", "admins"]}, "gold"),
        (GROUPS, {"groups": ["others"]}, "free"),
        (GROUPS, {"groups": "gold"}, "free"),
        (GROUPS, {}, "free"),
    ],
)
def test_plans(section: JwtSection, claims: dict[str, Any], plan: str) -> None:
    assert bearer_of({"sub": "acme", **claims}, section).plan == plan


@pytest.mark.parametrize(
    ("claims", "claim", "tenant"),
    [
        ({"sub": "acme"}, "sub", "acme"),
        ({"sub": "u1", "org": {"id": 17}}, "org.id", "17"),
        ({"sub": "u1", "https://issuer.test/tenant": "acme"}, "https://issuer.test/tenant", "acme"),
    ],
)
def test_tenants(claims: dict[str, Any], claim: str, tenant: str) -> None:
    found = bearer_of(claims, JwtSection(tenant_claim=claim))
    assert (found.tenant, found.name) == (tenant, claims["sub"])


@pytest.mark.parametrize("value", [None, "", "a\nb", "x" * 201, True, 1.5, {}, ["acme"], "\ud800"])
def test_who_names_no_tenant_is_nobody(value: object) -> None:
    with pytest.raises(RouterError) as caught:
        bearer_of({"sub": value}, JwtSection())
    assert caught.value.code == "forbidden"


@given(st.text(max_size=100), st.text(max_size=100))
def test_two_tenants_never_have_one_account_and_none_means_anything_to_the_store(one: str, other: str) -> None:
    assert (account_of(one) == account_of(other)) == (one == other)
    assert set(account_of(one)).isdisjoint("{}\r\n *?[")
