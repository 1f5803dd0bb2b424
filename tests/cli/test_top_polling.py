"""Questions to the router, over real sockets."""

from __future__ import annotations

import threading

from cli.commands.top import TABS
from cli.context import connect
from cli.top import polling
from tests.support.admin_stand_in import StandIn
from tests.support.fleet_on_show import answers


def test_every_tab_has_its_parts_and_every_part_its_question() -> None:
    assert tuple(polling.OF_TAB) == TABS
    assert {name for tab in TABS for name in polling.needed(tab)} == set(polling.PARTS)


def test_all_parts_of_a_tab_come_at_once() -> None:
    with StandIn(answers()) as admin:
        found = polling.read(connect(admin.url, None, admin=True), polling.needed("requests"), "edge-eu-1")
        asked = {path: query for _, path, query, _ in admin.asked}
    assert set(found.parts) == {"status", "regions", "stats", "in flight", "requests"}
    assert (found.trouble, found.refused) == (None, {})
    assert all(query["router"] == "edge-eu-1" for query in asked.values())
    assert "window_s" not in asked["/admin/v1/stats"], "all views look back as far as the router says"


def test_what_is_about_all_routers_is_not_asked_of_one() -> None:
    with StandIn(answers()) as admin:
        polling.read(connect(admin.url, None, admin=True), polling.needed("keys"), "edge-eu-1")
        asked = {path: query for _, path, query, _ in admin.asked}
    assert "router" not in asked["/admin/v1/keys"]
    assert asked["/admin/v1/usage"]["by"] == "key"


def test_one_part_that_is_refused_does_not_spoil_the_others() -> None:
    known = answers() | {("GET", "/admin/v1/keys"): (403, {"error": {"message": "The role read is not enough."}})}
    with StandIn(known) as admin:
        found = polling.read(connect(admin.url, None, admin=True), polling.needed("keys"))
    assert found.refused == {"keys": "the role read is not enough."}
    assert found.trouble is None
    assert "quotas" in found.parts


def test_nobody_there_is_trouble() -> None:
    found = polling.read(connect("http://127.0.0.1:1", None, admin=True), polling.needed("events"))
    assert found.trouble is not None
    assert "cannot reach" in found.trouble


def test_work_in_the_background_holds_nobody_up() -> None:
    done, go = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(30)
        done.set()

    polling.in_background(work)
    assert not done.is_set()
    go.set()
    assert done.wait(30)
