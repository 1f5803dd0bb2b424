"""Which ways requests take over the map."""

from __future__ import annotations

from cli.top.flows import FLOWS_S, flows
from cli.top.polling import Reading
from cli.top.view import View
from tests.support.fleet_on_show import NOW_S, answers, summary


def view_of(*requests: dict[str, object]) -> View:
    known, view = answers(), View()
    parts = {"status": known["GET", "/admin/v1/status"], "regions": known["GET", "/admin/v1/regions"]}
    parts |= {"routers": known["GET", "/admin/v1/routers"], "requests": {"data": list(requests)}}
    view.take(Reading(parts), 1.0, NOW_S)
    return view


def test_ways_are_counted_from_the_routers_region_to_the_backends() -> None:
    far = [summary(n, region="eu-central", router="edge-us-1") for n in range(3)]
    back = summary(4, region="us-east", router="edge-eu-1")
    found = flows(view_of(*far, back), NOW_S)
    assert [flow.share for flow in found] == [0.25, 0.75], "the strongest is drawn last"
    assert tuple(found[-1].start) == (38.9, -77.0)
    assert tuple(found[-1].end) == (50.1, 8.7)


def test_requests_that_stay_are_old_or_from_nowhere_are_not_drawn() -> None:
    home = summary(0, region="us-east", router="edge-us-1")
    old = summary(1, region="eu-central", router="edge-us-1", arrival_s=NOW_S - FLOWS_S - 1)
    unknown = summary(2, region="eu-central", router="edge-9")
    refused = summary(3, region=None, backend=None, router="edge-us-1")
    assert flows(view_of(home, old, unknown, refused), NOW_S) == []
