"""The configuration as JSON: which file it is, what is pending, what a text would change."""

from __future__ import annotations

import os

from router.control.config_views import file_of
from tests.support.control import TOML, Admin


async def test_the_file_can_be_told_from_another_of_the_same_name(admin: Admin) -> None:
    shown = (await admin.get("/admin/v1/config"))["file"]
    found = os.stat(admin.path)
    assert shown == {"inode": found.st_ino, "bytes": found.st_size, "mtime_ns": found.st_mtime_ns}
    assert file_of(str(admin.path)) == shown
    assert file_of(f"{admin.path}.none") is None


async def test_what_is_read_only_at_start_is_pending_until_then(admin: Admin) -> None:
    assert (await admin.get("/admin/v1/config"))["pending"] == []
    admin.path.write_text(TOML.replace('name = "edge"', 'name = "edge"\nlisten = "127.0.0.1:18080"'))
    await admin.post("/admin/v1/config/reload")
    pending = ['router.listen: "127.0.0.1:8080" -> "127.0.0.1:18080"']
    assert (await admin.get("/admin/v1/config"))["pending"] == pending
    assert (await admin.get("/admin/v1/status"))["router"]["config_pending"] == pending
    admin.path.write_text(TOML.replace('"p2c"', '"ttft"'))
    await admin.post("/admin/v1/config/reload")
    assert (await admin.get("/admin/v1/status"))["router"]["config_pending"] == [], "it was taken back"


async def test_a_text_is_checked_and_nothing_changes(admin: Admin) -> None:
    text = TOML.replace('"p2c"', '"ttft"').replace("[probes]", 'workers = 2\n[store]\nredis = "redis://h"\n[probes]')
    found = await admin.post("/admin/v1/config/check", {"text": text})
    assert 'router.policy: "p2c" -> "ttft"' in found["changes"]
    assert "router.workers: 1 -> 2" in found["pending"]
    assert found["generation"] == 1
    shown = await admin.get("/admin/v1/config")
    assert (shown["generation"], shown["config"]["router"]["policy"], shown["refused"]) == (1, "p2c", None)
    assert admin.path.read_text() == TOML


async def test_a_text_with_problems_is_refused_with_all_of_them(admin: Admin) -> None:
    refused = await admin.post("/admin/v1/config/check", {"text": TOML.replace("[probes]", "[probs]")}, 422)
    assert 'did you mean "probes"?' in refused["error"]["problems"][0]
    cut_off = await admin.post("/admin/v1/config/check", {"text": '[[regions]]\nname = "x"\nbackends = []\n'}, 422)
    assert "would remove every backend" in cut_off["error"]["problems"][0]
    assert (await admin.get("/admin/v1/config"))["refused"] is None
    for body in ({}, {"text": 1}, {"text": None}):
        await admin.post("/admin/v1/config/check", body, 400)


async def test_a_check_says_which_keys_would_lose_their_plan(admin: Admin) -> None:
    made = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "gold"}, 201)
    found = await admin.post("/admin/v1/config/check", {"text": TOML.replace("[plans.gold]", "[plans.golden]")})
    (warning,) = found["warnings"]
    assert made["id"] in warning
    assert (await admin.post("/admin/v1/config/check", {"text": TOML}))["warnings"] == []
