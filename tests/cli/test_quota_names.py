"""What `router quota show` and `router quota reset` take for a name, and what a reset shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.commands import quota
from cli.errors import CliError, Exit, StatusError
from tests.cli.conftest import Json, Play

KEYS = ("GET", "/admin/v1/keys")
QUOTAS = ("GET", "/admin/v1/quotas")
LIMIT: Json = {"limit": "requests", "max": 600, "used": 3, "remaining": 597, "reset_s": 1.0, "scope": "global"}
BUDGET: Json = LIMIT | {"limit": "budget", "max": 5.0, "used": 4.0, "remaining": 1.0, "forecast": 4.0}
TENANT: Json = {"account": "tenant:acme", "scope": "tenant", "name": "acme", "key": None, "limits": [LIMIT]}


def of_key(number: int, *limits: Json) -> Json:
    key = {"id": f"key_{number}", "name": f"ci{number}"}
    return {"account": key["id"], "scope": "key", "name": key["name"], "key": key, "limits": [*limits]}


def changes(play: Play) -> list[str]:
    return [path for method, path, _ in play.admin.calls if method == "DELETE"]


def reset(play: Play, name: str, **options: Any) -> None:
    quota.run_reset(play.context, quota.ResetOptions(name, **({"as_json": False, "force": True} | options)))


@pytest.mark.parametrize("name", ["tenant:acme", "model:m", "all", "jwt:acme"])
def test_a_key_of_such_a_name_does_not_hide_an_account(play: Play, name: str) -> None:
    hiding = {"id": "key_9", "name": name, "tenant": "x", "plan": "p", "revoked": False}
    path = f"/admin/v1/quotas/{name.replace(':', '%3A')}"
    play.admin.answers = {KEYS: {"data": [hiding]}, QUOTAS: {"data": [TENANT]}, ("DELETE", path): TENANT}
    quota.run_show(play.context, quota.ShowOptions(name, as_json=False))
    assert play.admin.calls[-1] == (*QUOTAS, {"account": name})
    reset(play, name)
    assert changes(play) == [path]


def test_a_tenant_is_reset_by_its_name(play: Play) -> None:
    path = ("DELETE", "/admin/v1/quotas/tenant%3Aacme?what=minute")
    play.admin.answers = {KEYS: {"data": []}, QUOTAS: {"data": [TENANT, of_key(1, LIMIT)]}, path: TENANT}
    reset(play, "acme", minute=True)
    assert (*QUOTAS, {"tenant": "acme"}) in play.admin.calls
    assert changes(play) == [path[1]]


def test_of_a_tenant_without_limits_its_keys_are_reset_after_all_their_losses_are_told(play: Play) -> None:
    keys = [of_key(1, BUDGET), of_key(2, BUDGET)]
    play.admin.answers = {KEYS: {"data": []}, QUOTAS: {"data": keys}}
    play.admin.answers |= {("DELETE", f"/admin/v1/quotas/{each['account']}"): each for each in keys}
    with pytest.raises(CliError) as caught:
        reset(play, "acme", force=False)
    assert [line.split()[0] for line in caught.value.details] == ["ci1", "ci2"]
    assert changes(play) == []
    reset(play, "acme", as_json=True)
    assert changes(play) == ["/admin/v1/quotas/key_1", "/admin/v1/quotas/key_2"]
    assert json.loads(play.out) == {"data": keys}


def test_a_model_with_limits_is_found_by_its_name(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Json = {"account": "model:chat", "scope": "model", "name": "chat", "key": None, "limits": [LIMIT]}

    def get(path: str, **query: object) -> Any:
        play.admin.calls.append(("GET", path, query))
        if path == KEYS[1]:
            return {"data": []}
        if query != {"account": "model:chat"}:
            raise StatusError(404, {"message": "There is no key and no tenant 'chat'."})
        return {"data": [model]}

    monkeypatch.setattr(play.admin, "get", get)
    play.admin.answers = {("DELETE", "/admin/v1/quotas/model%3Achat"): model}
    quota.run_show(play.context, quota.ShowOptions("chat", as_json=False))
    assert "model chat" in play.out
    reset(play, "chat")
    assert changes(play) == ["/admin/v1/quotas/model%3Achat"]
    with pytest.raises(CliError, match="named 'chut'"):
        quota.run_show(play.context, quota.ShowOptions("chut", as_json=False))


def test_nobody_is_reset_by_a_name_that_nobody_has(play: Play) -> None:
    play.admin.answers = {KEYS: {"data": []}}
    with pytest.raises(CliError, match="no key, tenant or model with limits named 'acne'") as caught:
        reset(play, "acne")
    assert caught.value.code is Exit.USAGE
    play.admin.answers[QUOTAS] = {"data": []}
    with pytest.raises(CliError, match="'idle' has no limits and no keys") as caught:
        reset(play, "idle")
    assert caught.value.code is Exit.USAGE


def test_a_reset_shows_no_forecast(play: Play) -> None:
    made = of_key(1, BUDGET)
    play.admin.answers = {("GET", "/admin/v1/keys/key_1"): {"id": "key_1", "name": "ci1"}, QUOTAS: {"data": [made]}}
    play.admin.answers["DELETE", "/admin/v1/quotas/key_1"] = made
    quota.run_show(play.context, quota.ShowOptions("key_1", as_json=False))
    assert "forecast" in play.out
    play.stdout.truncate(0)
    reset(play, "key_1")
    assert "budget" in play.out or "USD" in play.out
    assert "forecast" not in play.out


def test_a_jwt_account_of_several_plans_names_them(play: Play) -> None:
    made = of_key(1, LIMIT) | {"plan": "gold", "plans": ["gold", "trial", "x"]}
    play.admin.answers = {QUOTAS: {"data": [made, of_key(2, LIMIT) | {"plan": "gold", "plans": ["gold"]}]}}
    quota.run_show(play.context, quota.ShowOptions(None, as_json=False))
    assert "ci1 (plan gold; also trial, x)" in play.out
    assert play.out.count("plan gold") == 1
