"""EndpointSlices, Services and nodes, read as sightings."""

from __future__ import annotations

from typing import Any

import pytest

from router.config import Source
from router.core.roll import Leaves, Sighting
from router.core.types import RegionSpec
from router.discovery.slices import Node, Told, annotations_of, node_of, read_slices
from tests.support.cluster_api import pod, slice_of

SOURCE = Source("gpus", "kubernetes", RegionSpec("us-east"), selector="app=vllm", engine="vllm", models=("m",))
NOW_S, WALL_S = 1000.0, 1_790_000_000.0


def told(*slices: dict[str, Any], source: Source = SOURCE, **more: Any) -> Told:
    return read_slices(source, slices, more.get("services", {}), more.get("nodes", {}), now_s=NOW_S, wall_s=WALL_S)


def only(found: Told) -> Sighting:
    (sighting,) = found.sightings
    return sighting


def test_a_pod_is_a_backend_under_its_name() -> None:
    found = only(told(slice_of("s", pod("vllm-0", "10.0.0.7", node="n1"))))
    assert (found.spec.name, found.spec.url) == ("us-east/vllm-0", "http://10.0.0.7:8000")
    assert (found.spec.engine, found.spec.models) == ("vllm", ("m",))
    assert (found.ready, found.leaves) == (True, None)
    assert dict(found.facts) == {"pod": "vllm-0", "service": "vllm", "node": "n1"}


@pytest.mark.parametrize(("ready", "expected"), [(True, True), (None, True), (False, False)])
def test_ready_unless_it_says_that_it_is_not(ready: bool | None, expected: bool) -> None:
    assert only(told(slice_of("s", pod("a", ready=ready)))).ready is expected


def test_the_empty_slice_of_a_service_without_pods_is_nothing_to_remark_on() -> None:
    """Kubernetes keeps one without ports for a model that was scaled to none."""
    empty = slice_of("s") | {"endpoints": None, "ports": None}
    assert told(empty) == Told([], [])
    assert told(empty | {"endpoints": [pod("a")]}).remarks == ["the EndpointSlice s has no port"]


def test_one_that_terminates_leaves_in_its_time() -> None:
    entry = pod("a", ready=False, terminating=True)
    assert only(told(slice_of("s", entry))).leaves == Leaves(NOW_S + 30.0, "its pod is terminating")
    later = told(slice_of("s", entry, annotations={"meridian/leaves-in": "120"}))
    assert only(later).leaves == Leaves(NOW_S + 120.0, "its pod is terminating")


def test_annotations_say_what_runs_there_those_of_the_slice_before_those_of_the_service() -> None:
    service = {
        "metadata": {"annotations": {"meridian/engine": "sglang", "meridian/cost-usd-hour": "2.5", "other/x": "1"}}
    }
    said = {"ml/vllm": annotations_of(service)}
    more = {"meridian/model": "big, small", "meridian/engine": "tgi", "meridian/max-inflight": "9"}
    found = told(slice_of("s", pod("a"), annotations=more), services=said)
    spec = only(found).spec
    assert (spec.engine, spec.models, spec.cost_usd_hour, spec.max_inflight) == ("tgi", ("big", "small"), 2.5, 9)
    assert only(told(slice_of("s", pod("a")), services=said)).spec.engine == "sglang"
    assert not found.remarks


def test_annotations_that_are_wrong_are_remarked_and_left_out() -> None:
    wrong = {"meridian/engine": "vlm", "meridian/cost-usd-hour": "cheap", "meridian/model": "two words"}
    found = told(slice_of("s", pod("a"), annotations=wrong))
    spec = only(found).spec
    assert (spec.engine, spec.models, spec.cost_usd_hour) == ("vllm", ("m",), 0.0)
    assert [remark.split(": ")[0] for remark in found.remarks] == ["the EndpointSlice s"] * 3
    assert any("'vlm'" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("port", "ports", "expected"),
    [
        ("", [{"name": "http", "port": 8000}, {"name": "metrics", "port": 9000}], 8000),
        ("metrics", [{"name": "http", "port": 8000}, {"name": "metrics", "port": 9000}], 9000),
        ("9000", [{"name": "http", "port": 8000}, {"name": "metrics", "port": 9000}], 9000),
        ("", [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "", "port": 8000}], 8000),
        ("8123", [], 8123),
        ("web", [{"name": "http", "port": 8000}], None),
        ("", [], None),
    ],
)
def test_the_port(port: str, ports: list[dict[str, Any]], expected: int | None) -> None:
    from dataclasses import replace

    found = told(slice_of("s", pod("a"), ports=ports), source=replace(SOURCE, port=port))
    assert [s.spec.url for s in found.sightings] == ([] if expected is None else [f"http://127.0.0.1:{expected}"])
    assert bool(found.remarks) is (expected is None)


def test_an_address_without_a_pod_is_named_by_itself_and_ipv6_has_brackets() -> None:
    entry = {"addresses": ["fd00::7"], "conditions": {}}
    found = only(told(slice_of("s", entry, family="IPv6")))
    assert (found.spec.name, found.spec.url) == ("us-east/fd00--7-8000", "http://[fd00::7]:8000")


def test_a_long_name_keeps_the_end_by_which_pods_differ() -> None:
    found = only(told(slice_of("s", pod("p" * 80 + "-7f8d9-abcde"))))
    assert found.spec.name.endswith("-7f8d9-abcde")
    assert len(found.spec.name) <= len("us-east/") + 63


def test_a_node_that_ends_takes_its_pods_with_it() -> None:
    taint = {"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "aws-node-termination-handler/spot-itn"}]}}
    nodes = {"/n1": node_of(taint)}
    found = told(slice_of("s", pod("a", node="n1"), pod("b", node="n2")), nodes=nodes)
    assert [s.leaves for s in found.sightings] == [
        Leaves(NOW_S + 30.0, "the taint aws-node-termination-handler/spot-itn of its node"),
        None,
    ]


def test_a_node_may_say_when_it_ends() -> None:
    thing = {"metadata": {"name": "n1", "annotations": {"meridian/leaves-at": "2026-09-21T14:15:20Z"}}}
    nodes = {"/n1": node_of(thing)}
    assert only(told(slice_of("s", pod("a", node="n1")), nodes=nodes)).leaves == Leaves(
        NOW_S + 120.0, "an annotation of its node"
    )


@pytest.mark.parametrize(
    "thing", [{}, {"spec": {"unschedulable": True}}, {"spec": {"taints": [{"key": "nvidia.com/gpu"}]}}]
)
def test_other_nodes_stay(thing: dict[str, Any]) -> None:
    assert node_of(thing) == Node(None, None)
