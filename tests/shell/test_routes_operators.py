"""Each role may ask its part of the admin API, and the history knows who did."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from router.control.operators import ROLES, Operators
from router.control.routes import ROUTES
from tests.support.control import TOML, Admin, administering

V1 = "/admin/v1"
TOKENS = {role: f"{role}-token-long-enough" for role in ROLES}
FILE = "".join(f'[operators.{role}-er]\nrole = "{role}"\ntoken = "{token}"\n' for role, token in TOKENS.items())


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    config, file = tmp_path / "regions.toml", tmp_path / "operators.toml"
    config.write_text(TOML)
    file.write_text(FILE)
    file.chmod(0o600)
    async with administering(config, operators=Operators(path=str(file))) as made:
        yield made


def by(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[role]}"}


def test_every_route_needs_a_role_and_writing_needs_more_than_reading() -> None:
    assert {route.needs for route in ROUTES} == set(ROLES)
    for route in ROUTES:
        if route.writes:
            assert route.needs in ("operate", "admin"), route.name
    looking = {route.name for route in ROUTES if route.method != "GET" and not route.writes}
    assert looking == {"explain", "checkConfig", "probeRegion", "probeBackend"}
    money = {route.name for route in ROUTES if route.needs == "admin"}
    assert money == {
        *("createKey", "changeKey", "rotateKey", "revokeKey", "resetQuota"),
        *("listOperators", "addOperator", "removeOperator"),
    }


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_a_role_that_does_not_suffice_is_told_which_one_would(admin: Admin, route: object) -> None:
    assert hasattr(route, "needs")
    path = re.sub(r"\{\w+\}", "none", route.path)
    for role in ROLES[: ROLES.index(route.needs)]:
        body = await admin.ask(route.method, path, 403, headers=by(role))
        assert body["error"]["code"] == "forbidden"
        assert body["error"]["role_needed"] == route.needs
        assert f"needs the role {route.needs}" in body["error"]["message"]


async def test_what_a_role_may_works_and_is_noted_with_the_name(admin: Admin) -> None:
    await admin.get(f"{V1}/regions", headers=by("read"))
    await admin.get("/metrics", headers=by("read"))
    await admin.post(f"{V1}/explain", {"model": "m"}, headers=by("read"))
    await admin.post(f"{V1}/regions/us-east/drain", {}, headers=by("operate"))
    await admin.post(f"{V1}/keys", {"name": "x"}, 403, headers=by("operate"))
    await admin.post(f"{V1}/keys", {"name": "x"}, 201, headers=by("admin"))
    found = (await admin.get(f"{V1}/events?kind=operator,drain,key", headers=by("read")))["data"]
    assert [(e["kind"], e["to"], e["who"]) for e in reversed(found)] == [
        ("drain", "draining", "operate-er"),
        ("operator", "200", "operate-er"),
        ("operator", "forbidden", "operate-er"),
        ("key", "created", "admin-er"),
        ("operator", "201", "admin-er"),
    ]


async def test_a_name_that_one_gives_oneself_does_not_count_beside_a_token(admin: Admin) -> None:
    headers = by("operate") | {"X-Router-Operator": "the boss"}
    await admin.post(f"{V1}/regions/us-east/drain", {}, headers=headers)
    (event,) = (await admin.get(f"{V1}/events?kind=drain", headers=headers))["data"]
    assert event["who"] == "operate-er"
    assert (await admin.get(f"{V1}/whoami", headers=headers)) == {
        "name": "operate-er",
        "role": "operate",
        "token_needed": True,
    }


async def test_operators_are_added_listed_and_removed(admin: Admin) -> None:
    boss = by("admin")
    made = await admin.post(f"{V1}/operators", {"name": "carl", "role": "read"}, 201, headers=boss)
    carl = {"Authorization": f"Bearer {made['token']}"}
    assert (await admin.get(f"{V1}/whoami", headers=carl))["name"] == "carl"
    (said, *_) = (await admin.get(f"{V1}/events?kind=operator", headers=boss))["data"]
    assert (said["why"], said["who"]) == ("addOperator: carl, role read", "admin-er"), "the path does not name him"
    listed = await admin.get(f"{V1}/operators", headers=boss)
    assert {"name": "carl", "role": "read"} in listed["data"]
    assert made["token"] not in str(listed)
    assert listed["file"].endswith("operators.toml")
    await admin.post(f"{V1}/operators", {"name": "carl"}, 400, headers=boss)
    await admin.post(f"{V1}/operators", {"name": "dora", "role": "boss"}, 400, headers=boss)
    await admin.ask("DELETE", f"{V1}/operators/carl", 200, headers=boss)
    await admin.get(f"{V1}/whoami", 401, headers=carl)
    await admin.ask("DELETE", f"{V1}/operators/carl", 404, headers=boss)
    last = await admin.ask("DELETE", f"{V1}/operators/admin-er", 400, headers=boss)
    assert "role admin" in last["error"]["message"]


async def test_where_no_token_is_needed_everybody_is_admin(tmp_path: Path) -> None:
    config = tmp_path / "regions.toml"
    config.write_text(TOML)
    async with administering(config) as made:
        told = await made.get(f"{V1}/whoami")
        assert (told["role"], told["token_needed"]) == ("admin", False)
        refused = await made.post(f"{V1}/operators", {"name": "anna"}, 400)
        assert "set [auth] operators" in refused["error"]["message"]
