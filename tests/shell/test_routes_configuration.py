"""The routes of the configuration: shown, read again, and the policies."""

from __future__ import annotations

from tests.support.control import TOML, Admin


async def test_a_reload_names_the_keys_whose_plan_it_takes_away(admin: Admin) -> None:
    made = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "gold"}, 201)
    admin.path.write_text(TOML.replace("[plans.gold]", "[plans.golden]"))
    for _ in range(2):  # the watcher may have been faster; it is said at every reload
        (warning,) = (await admin.post("/admin/v1/config/reload"))["warnings"]
        assert '"gold"' in warning
        assert made["id"] in warning
    (shown,) = (await admin.get("/admin/v1/keys"))["data"]
    assert (shown["plan"], shown["plan_missing"]) == ("gold", True)
    await admin.ask("PATCH", f"/admin/v1/keys/{made['id']}", 200, json={"plan": "golden"})
    assert (await admin.post("/admin/v1/config/reload"))["warnings"] == []


async def test_config_and_reload(admin: Admin) -> None:
    shown = await admin.get("/admin/v1/config")
    assert (shown["source"], shown["generation"], shown["refused"]) == (str(admin.path), 1, None)
    assert shown["config"]["router"]["policy"] == "p2c"
    assert (await admin.post("/admin/v1/config/reload")) == {
        "changed": False,
        "generation": 1,
        "changes": [],
        "warnings": [],
    }
    admin.path.write_text(TOML.replace('"p2c"', '"ttft"'))
    reloaded = await admin.post("/admin/v1/config/reload")
    assert reloaded == {
        "changed": True,
        "generation": 2,
        "changes": ['router.policy: "p2c" -> "ttft"'],
        "warnings": [],
    }
    admin.path.write_text(TOML.replace("[probes]", "[probs]"))
    refused = await admin.post("/admin/v1/config/reload", None, 422)
    assert refused["error"]["problems"][0].startswith(f"{admin.path}:")
    assert 'did you mean "probes"?' in refused["error"]["problems"][0]
    shown = await admin.get("/admin/v1/config")
    assert (shown["generation"], shown["config"]["router"]["policy"]) == (2, "ttft")
    assert shown["refused"]["problems"] == refused["error"]["problems"]
    assert (await admin.get("/admin/v1/status"))["router"]["config_refused"] == shown["refused"]


async def test_policies(admin: Admin) -> None:
    listed = (await admin.get("/admin/v1/policies"))["data"]
    assert [p["name"] for p in listed if p["default"]] == ["p2c"]
    assert all(p["summary"] and p["source"] for p in listed)
