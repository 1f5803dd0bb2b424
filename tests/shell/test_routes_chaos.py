"""The routes of injected faults: who may start them, at which backends, and how they end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.control import TOML, Admin


@pytest.fixture
async def permitted(admin: Admin) -> Admin:
    admin.path.write_text(TOML.replace('policy = "p2c"', 'policy = "p2c"\nchaos = true'))
    await admin.post("/admin/v1/config/reload")
    return admin


def backends(listed: dict[str, Any]) -> list[str]:
    return sorted(backend for fault in listed["data"] for backend in fault["backends"])


async def test_faults_are_refused_where_the_file_does_not_permit_them(admin: Admin) -> None:
    refused = await admin.post("/admin/v1/chaos", {"target": "us-east", "fault": "refuse"}, 400)
    assert "[router] chaos = true" in refused["error"]["message"]
    assert backends(await admin.get("/admin/v1/chaos")) == []


async def test_a_fault_of_a_region_is_met_at_each_of_its_backends(permitted: Admin) -> None:
    started = await permitted.post("/admin/v1/chaos", {"target": "us-east", "fault": "cut", "after_tokens": 3})
    assert backends(started) == ["us-east/a", "us-east/b"]
    assert {(f["fault"], f["after_tokens"], f["delay_s"]) for f in started["data"]} == {("cut", 3, None)}
    assert all(0 < f["left_s"] <= 60 for f in started["data"])


async def test_faults_end_by_backend_by_region_and_all_at_once(permitted: Admin) -> None:
    for target in ("us-east", "eu-west"):
        await permitted.post("/admin/v1/chaos", {"target": target, "fault": "refuse"})
    assert backends(await permitted.ask("DELETE", "/admin/v1/chaos/us-east/a", 200)) == ["eu-west/a", "us-east/b"]
    assert backends(await permitted.ask("DELETE", "/admin/v1/chaos/us-east", 200)) == ["eu-west/a"]
    assert backends(await permitted.ask("DELETE", "/admin/v1/chaos", 200)) == []


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"target": "us-east"}, 400, "fault"),
        ({"target": "us-east", "fault": "nope"}, 400, "fault"),
        ({"target": "us-east", "fault": "delay", "delay_s": -1}, 400, "delay_s"),
        ({"target": "us-east", "fault": "refuse", "for_s": 1e9}, 400, "for_s"),
        ({"target": "nowhere", "fault": "refuse"}, 404, None),
    ],
)
async def test_wrong_faults_are_refused(permitted: Admin, body: dict[str, Any], status: int, param: str | None) -> None:
    assert (await permitted.post("/admin/v1/chaos", body, status))["error"]["param"] == param
