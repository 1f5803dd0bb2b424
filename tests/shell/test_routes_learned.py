"""The routes that hand out what was learned and recorded."""

from __future__ import annotations

from array import array

from router.control.routes.learned import JOURNAL_MAX
from sim.recording import read_recording
from tests.support.control import Admin, record


async def test_what_was_learned(admin: Admin) -> None:
    admin.control.fleet.observe_rtt("us-east/a", 0.004, admin.control.now_s())
    known = await admin.get("/admin/v1/learned")
    assert known["router"] == {
        "name": "edge",
        "version": admin.control.version,
        "policy": "p2c",
        "config_hash": known["router"]["config_hash"],
    }
    assert known["router_region"] == "us-east"
    assert known["at_s"] > 1_700_000_000
    first, *_ = known["backends"]
    assert (first["name"], first["rtt_s"], first["cost_usd_hour"]) == ("us-east/a", 0.004, 2.5)
    assert [b["name"] for b in known["backends"]] == ["us-east/a", "us-east/b", "eu-west/a"]


async def test_the_journal_is_read_the_oldest_first(admin: Admin) -> None:
    for number in range(250):
        admin.control.telemetry.request_done(record(number, prefix_blocks=array("I", [1, 2, number])))
    lines = (await admin.get("/admin/v1/journal"))["data"]
    assert [line["request_id"] for line in lines] == [f"req-{n}" for n in range(150, 250)], "its ring has room for 100"
    assert lines[-1]["prefix_blocks"] == [1, 2, 249]
    assert lines[-1]["attempts"][0]["outcome"] == "unreachable"
    newest = (await admin.get("/admin/v1/journal?limit=3"))["data"]
    assert [line["request_id"] for line in newest] == ["req-247", "req-248", "req-249"]
    assert read_recording(lines).requests == 100
    for limit in ("0", "x", str(JOURNAL_MAX + 1)):
        assert (await admin.get(f"/admin/v1/journal?limit={limit}", 400))["error"]["param"] == "limit"


async def test_an_empty_journal(admin: Admin) -> None:
    assert (await admin.get("/admin/v1/journal"))["data"] == []
