"""Commands that change something at the router: keys, quotas, the running configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.commands import config, keys, quota
from cli.errors import CliError, Exit, StatusError
from router.config import EXAMPLE, dump, parse
from tests.cli.conftest import Json, Play

KEY = {"id": "key_1", "name": "me", "tenant": "acme", "plan": "default", "created_s": 1_790_000_000.0, "revoked": False}
KEYS = ("GET", "/admin/v1/keys")


def test_create_prints_the_secret_alone_on_stdout(play: Play) -> None:
    made = {"id": "key_1", "name": "me", "tenant": "me", "plan": "default", "key": "mr-secret"}
    play.admin.answers = {("POST", "/admin/v1/keys"): made}
    keys.run_create(play.context, keys.CreateOptions("me", None, None, as_json=False))
    assert play.admin.calls == [("POST", "/admin/v1/keys", {"name": "me"})]
    assert play.out.splitlines()[-1] == "mr-secret"
    assert "mr-secret" not in play.err


def test_create_json_has_the_shape_scripts_rely_on(play: Play) -> None:
    made = {"id": "key_1", "name": "me", "tenant": "me", "plan": "tiny", "key": "mr-secret"}
    play.admin.answers = {("POST", "/admin/v1/keys"): made}
    keys.run_create(play.context, keys.CreateOptions("me", "tiny", "acme", as_json=True))
    assert play.admin.calls[0][2] == {"name": "me", "plan": "tiny", "tenant": "acme"}
    assert {"id", "name", "plan", "key"} <= set(json.loads(play.out))


def test_list_hides_the_revoked(play: Play) -> None:
    play.admin.answers = {KEYS: {"data": [KEY, KEY | {"id": "key_2", "name": "old", "revoked": True}]}}
    keys.run_list(play.context, keys.ListOptions(revoked=False, as_json=False))
    assert "key_1" in play.out
    assert "key_2" not in play.out
    keys.run_list(play.context, keys.ListOptions(revoked=True, as_json=False))
    assert "● revoked" in play.out


def test_list_says_when_keys_expire_and_which_change_their_secret(play: Play) -> None:
    expired = {"id": "key_2", "name": "old", "expires_s": 1_790_000_100.0, "expired": True}
    changing = {"id": "key_3", "name": "new", "older_secrets": 1, "overlap_until_s": 1_790_000_200.0}
    play.admin.answers = {KEYS: {"data": [KEY, KEY | expired, KEY | changing]}}
    keys.run_list(play.context, keys.ListOptions(revoked=False, as_json=False))
    lines = play.out.splitlines()
    assert "never" in lines[1]
    assert "● expired" in lines[2]
    assert "old secret until 2026-" in lines[3]


def test_create_and_set_hand_on_the_expiry(play: Play) -> None:
    made = {"id": "key_1", "name": "me", "plan": "tiny", "key": "mr-secret", "expires": "2026-12-30T09:00:00Z"}
    play.admin.answers = {("POST", "/admin/v1/keys"): made, ("GET", "/admin/v1/keys/key_1"): KEY}
    play.admin.answers["PATCH", "/admin/v1/keys/key_1"] = KEY | {"expires": "2026-12-30T09:00:00Z"}
    keys.run_create(play.context, keys.CreateOptions("me", None, None, as_json=False, expires="30d"))
    assert play.admin.calls[-1][2] == {"name": "me", "expires": "30d"}
    keys.run_set(play.context, keys.SetOptions("key_1", {"expires": "never"}, as_json=False))
    assert play.admin.calls[-1][2] == {"expires": "never"}
    assert "expires 2026-12-30T09:00:00Z" in play.err
    assert "expires 2026-12-30T09:00:00Z" in play.out
    assert play.out.startswith("mr-secret\n"), "the secret alone: $(router keys create me)"


def test_rotate_prints_the_new_secret_and_until_when_the_old_one_works(play: Play) -> None:
    path = "/admin/v1/keys/key_1"
    made = KEY | {"key": "mr-new", "older_secrets": 1, "overlap_until_s": 1_790_000_200.0}
    play.admin.answers = {("GET", path): KEY, ("POST", f"{path}/rotate"): made}
    keys.run_rotate(play.context, keys.RotateOptions("key_1", "24h", as_json=False))
    assert play.admin.calls[-1] == ("POST", f"{path}/rotate", {"overlap": "24h"})
    assert "older secrets work until 2026-" in play.err
    assert play.out == "mr-new\n"
    play.admin.answers["POST", f"{path}/rotate"] = made | {"older_secrets": 0, "overlap_until_s": None}
    keys.run_rotate(play.context, keys.RotateOptions("key_1", None, as_json=False))
    assert play.admin.calls[-1][2] == {}
    assert "older secrets no longer work" in play.err


def test_rotate_of_an_expired_key_says_that_no_secret_works(play: Play) -> None:
    path = "/admin/v1/keys/key_1"
    late = {"expires": "2026-01-01T00:00:00Z", "expires_s": 1.0, "expired": True}
    made = KEY | late | {"key": "mr-new", "older_secrets": 1, "overlap_until_s": 1_790_000_200.0}
    play.admin.answers = {("GET", path): KEY | late, ("POST", f"{path}/rotate"): made}
    keys.run_rotate(play.context, keys.RotateOptions("key_1", None, as_json=False))
    assert "the key is expired: neither this secret nor an older one works" in play.err
    assert "secrets work until" not in play.err
    assert "router keys set key_1 --expires" in play.err
    assert play.out == "mr-new\n"


def test_a_key_may_be_named_by_its_name(play: Play) -> None:
    play.admin.answers = {KEYS: {"data": [KEY]}, ("DELETE", "/admin/v1/keys/key_1"): KEY | {"revoked": True}}
    keys.run_revoke(play.context, keys.KeyOptions("me", as_json=False))
    assert play.admin.calls[-1] == ("DELETE", "/admin/v1/keys/key_1", None)
    assert play.out == "✓ key me, id key_1, is revoked\n"


def test_a_name_that_two_keys_have_is_not_guessed(play: Play) -> None:
    play.admin.answers = {KEYS: {"data": [KEY, KEY | {"id": "key_2"}]}}
    with pytest.raises(CliError) as caught:
        keys.run_revoke(play.context, keys.KeyOptions("me", as_json=False))
    assert caught.value.code is Exit.USAGE
    assert len(caught.value.details) == 2


def test_a_key_that_is_not_there(play: Play) -> None:
    play.admin.answers = {KEYS: {"data": []}}
    with pytest.raises(CliError, match='there is no key "nobody"'):
        keys.run_show(play.context, keys.KeyOptions("nobody", as_json=False))


def test_show_key(play: Play) -> None:
    play.admin.answers = {("GET", "/admin/v1/keys/key_1"): KEY}
    keys.run_show(play.context, keys.KeyOptions("key_1", as_json=False))
    assert "acme" in play.out
    assert "router quota show key_1" in play.err


def _quota(used: float, **changes: object) -> Json:
    entry = {"limit": "requests", "max": 600, "used": used, "remaining": 600 - used, "reset_s": 12.5, "scope": "global"}
    return {"key": {"id": "key_1", "name": "me"}, "limits": [entry | changes]}


def test_quota(play: Play) -> None:
    play.admin.answers = {("GET", "/admin/v1/keys/key_1"): KEY, ("GET", "/admin/v1/quotas"): {"data": [_quota(300)]}}
    quota.run_show(play.context, quota.ShowOptions("key_1", as_json=False))
    assert play.admin.calls[-1] == ("GET", "/admin/v1/quotas", {"key": "key_1"})
    row = play.out.splitlines()[1]
    assert row.split() == [
        "me",
        "key_1",
        "requests",
        "a",
        "minute",
        "300",
        "██████",
        "600",
        "300",
        "12.5",
        "s",
        "global",
    ]


@pytest.mark.parametrize("used", [0, 200, 600])
def test_used_and_left_are_the_limit_together(play: Play, used: int) -> None:
    """The account of a rate stands at nothing while requests keep coming: what came lately is said beside it."""
    busy = _quota(used) | {"last_minute": {"requests": 294, "tokens": 9000, "refused": 0}}
    play.admin.answers = {("GET", "/admin/v1/quotas"): {"data": [busy]}}
    quota.run_show(play.context, quota.ShowOptions(None, as_json=False))
    assert "(294 in the last)" in play.out
    told = [word for word in play.out.splitlines()[1].split() if word.isdigit()]
    assert told == [str(used), "600", str(600 - used)]


def test_what_routers_hold_ahead_is_told_apart(play: Play) -> None:
    places = _quota(3, limit="concurrent", max=60, remaining=57, held=8)
    fleet = {"scope": "all routers", "routers": ["a"], "silent": ["b"]}
    play.admin.answers = {("GET", "/admin/v1/quotas"): {"data": [places], "fleet": fleet}}
    quota.run_show(play.context, quota.ShowOptions(None, as_json=False))
    assert "(8 held ahead)" in play.out
    assert [word for word in play.out.splitlines()[1].split() if word.isdigit()] == ["3", "60", "57"]
    assert "no answer from b" in play.err


def test_a_key_without_limits_shows_its_requests(play: Play) -> None:
    free = {
        "key": {"id": "key_1", "name": "me"},
        "limits": [],
        "last_minute": {"requests": 7, "tokens": 9, "refused": 0},
    }
    play.admin.answers = {("GET", "/admin/v1/quotas"): {"data": [free]}}
    quota.run_show(play.context, quota.ShowOptions(None, as_json=False))
    assert "none (requests in the last minute)" in play.out
    assert "7" in play.out.split()


def test_a_share_is_told_from_the_whole_limit(play: Play) -> None:
    share = _quota(10, max=300, plan_max=600, scope="this router")
    play.admin.answers = {("GET", "/admin/v1/quotas"): {"data": [share]}}
    quota.run_show(play.context, quota.ShowOptions(None, as_json=False))
    assert "300 of 600" in play.out
    assert "the store is away" in play.err


def test_quota_of_money_is_money(play: Play) -> None:
    play.admin.answers = {
        ("GET", "/admin/v1/quotas"): {"data": [_quota(12.5, limit="budget", max=500.0, remaining=487.5)]}
    }
    quota.run_show(play.context, quota.ShowOptions(None, as_json=False))
    assert "$12.50" in play.out
    assert "USD this month" in play.out


def test_quota_of_a_tenant_a_model_and_all(play: Play) -> None:
    groups = [
        _quota(3) | {"key": None, "scope": "tenant", "name": "acme", "account": "tenant:acme"},
        _quota(4) | {"key": None, "scope": "model", "name": "m", "account": "model:m"},
        _quota(5) | {"key": None, "scope": "all", "name": "all", "account": "all"},
    ]
    play.admin.answers = {KEYS: {"data": []}, ("GET", "/admin/v1/quotas"): {"data": [_quota(1), *groups]}}
    quota.run_show(play.context, quota.ShowOptions("acme", as_json=False))
    assert play.admin.calls[-1] == ("GET", "/admin/v1/quotas", {"tenant": "acme"})
    for words in ("tenant acme", "model m", "all requests together"):
        assert words in play.out
    play.admin.answers = {KEYS: {"data": []}, ("DELETE", "/admin/v1/quotas/tenant%3Aacme"): groups[0]}
    quota.run_reset(play.context, quota.ResetOptions("tenant:acme", as_json=False))
    assert "tenant acme" in play.out


def test_quota_of_nobody(play: Play) -> None:
    play.admin.answers = {KEYS: {"data": []}}
    with pytest.raises(CliError, match="no key, tenant or model with limits named 'nobody'"):
        quota.run_show(play.context, quota.ShowOptions("nobody", as_json=False))


def test_quota_reset(play: Play) -> None:
    play.admin.answers = {("GET", "/admin/v1/keys/key_1"): KEY, ("DELETE", "/admin/v1/quotas/key_1"): _quota(0)}
    quota.run_reset(play.context, quota.ResetOptions("key_1", as_json=False))
    assert play.admin.calls[-1][:2] == ("DELETE", "/admin/v1/quotas/key_1")
    assert "600" in play.out


RELOAD = ("POST", "/admin/v1/config/reload")


def test_reload_lists_what_it_changed(play: Play) -> None:
    play.admin.answers = {RELOAD: {"changed": True, "generation": 4, "changes": ["regions.eu: added, 1 backend"]}}
    config.run_reload(play.context, config.ReloadOptions(as_json=False))
    assert play.out == "✓ generation 4 is in force\n  regions.eu: added, 1 backend\n"


def test_a_reload_and_the_list_of_keys_name_what_has_lost_its_plan(play: Play) -> None:
    line = 'the plan "eu" is not in the configuration: 1 key of it may do nothing: key_1 (me)'
    play.admin.answers = {
        RELOAD: {"changed": False, "generation": 4, "changes": [], "warnings": [line, "[plans.x] odd"]},
        ("GET", "/admin/v1/keys"): {"data": [KEY | {"plan": "eu", "plan_missing": True}]},
    }
    config.run_reload(play.context, config.ReloadOptions(as_json=False))
    assert line in " ".join(play.err.split())
    assert "[plans.x] odd" in play.err
    keys.run_list(play.context, keys.ListOptions(revoked=False, as_json=False))
    assert "plan missing" in play.out


def test_a_refused_reload_lists_every_problem(play: Play) -> None:
    error = StatusError(422, {"message": "The file has 2 problems.", "problems": ["a:1: x", "a:2: y"]})
    play.admin.answers = {RELOAD: error}
    with pytest.raises(CliError) as caught:
        config.run_reload(play.context, config.ReloadOptions(as_json=False))
    assert caught.value.code is Exit.USAGE
    assert caught.value.details == ("a:1: x", "a:2: y")


def _running(text: str, **changes: object) -> Json:
    document = dump(parse(text, "regions.toml", secrets=False))
    return {"source": "regions.toml", "generation": 2, "loaded_s": 1.0, "refused": None, "config": document} | changes


def test_show_lists_why_the_file_was_refused(play: Play) -> None:
    refused = {"at_s": 1.0, "problems": ["/etc/m.toml:28: [plans.default]: x", "/etc/m.toml:30: y"]}
    play.admin.answers = {("GET", "/admin/v1/config"): _running(EXAMPLE, source="/etc/m.toml", refused=refused)}
    config.run_show(play.context, config.ShowOptions(as_json=False))
    assert "/etc/m.toml was refused at" in play.err
    assert "[plans.default]: x" in play.err
    assert "/etc/m.toml:30: y" in play.err


def test_show_config_is_toml_that_can_be_read_again(play: Play) -> None:
    play.admin.answers = {("GET", "/admin/v1/config"): _running(EXAMPLE)}
    config.run_show(play.context, config.ShowOptions(as_json=False))
    assert parse(play.out, "shown", secrets=False).backends == parse(EXAMPLE, "x", secrets=False).backends


def test_diff_of_what_runs(play: Play, tmp_path: Path) -> None:
    file = tmp_path / "regions.toml"
    file.write_text(EXAMPLE)
    play.admin.answers = {("GET", "/admin/v1/config"): _running(EXAMPLE)}
    assert config.run_diff(play.context, config.DiffOptions(str(file), as_json=False)) is Exit.OK
    file.write_text(EXAMPLE.replace("max_inflight  = 256", "max_inflight  = 64"))
    assert config.run_diff(play.context, config.DiffOptions(str(file), as_json=False)) is Exit.FAILED
    assert play.out.splitlines()[-1] == "regions.us-east.backends.a.max_inflight: 256 -> 64"


def test_diff_says_which_file_the_router_reads(play: Play, tmp_path: Path) -> None:
    file, other = tmp_path / "regions.toml", tmp_path / "copy.toml"
    file.write_text(EXAMPLE)
    other.write_text(EXAMPLE.replace("max_inflight  = 256", "max_inflight  = 64"))
    play.admin.answers = {("GET", "/admin/v1/config"): _running(EXAMPLE, source=str(file))}
    assert config.run_diff(play.context, config.DiffOptions(None, as_json=False)) is Exit.OK
    assert f"runs what {file} says" in play.out
    assert config.run_diff(play.context, config.DiffOptions(str(other), as_json=False)) is Exit.FAILED
    assert f"The router reads {file}; `router config apply" in play.err
    file.write_text(other.read_text())
    assert config.run_diff(play.context, config.DiffOptions(None, as_json=False)) is Exit.FAILED
    assert "\n`router config reload` puts this in force." in play.err


def test_diff_does_not_trip_over_a_password_it_cannot_see(play: Play, tmp_path: Path) -> None:
    text = EXAMPLE.replace('# redis = "redis://127.0.0.1:6379/0"', 'redis = "redis://u:secret@127.0.0.1:6379/0"')
    file = tmp_path / "regions.toml"
    file.write_text(text)
    play.admin.answers = {("GET", "/admin/v1/config"): _running(text)}
    assert config.run_diff(play.context, config.DiffOptions(str(file), as_json=False)) is Exit.OK
    assert "secret" not in play.out + play.err


def test_a_refused_file_is_remembered(play: Play) -> None:
    refused = {"at_s": 1.0, "problems": ["x"]}
    play.admin.answers = {("GET", "/admin/v1/config"): _running(EXAMPLE, refused=refused)}
    config.run_show(play.context, config.ShowOptions(as_json=False))
    assert "was refused" in play.err
