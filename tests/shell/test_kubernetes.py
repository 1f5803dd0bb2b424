"""EndpointSlices, Services and nodes of an API on loopback become sightings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.config import Source
from router.core.roll import Sighting
from router.core.types import RegionSpec
from router.discovery import mirror
from router.discovery.kubernetes import follow_cluster
from router.discovery.sources import Following
from router.tasks import spawn, stop
from tests.support.cluster_api import ClusterApi, cluster_api, pod, slice_of


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_PAUSE_S", 0.02)
    monkeypatch.setattr(mirror, "_PAUSE_S_MAX", 0.1)


class Heard:
    """The latest words of a source."""

    def __init__(self) -> None:
        self.sightings: Sequence[Sighting] | None = None
        self.failures: list[str] = []
        self.remarks: Sequence[str] = ()

    def tell(self, sightings: Sequence[Sighting]) -> None:
        self.sightings = sightings

    def remark(self, texts: Sequence[str]) -> None:
        self.remarks = texts

    def names(self) -> set[str]:
        return {s.spec.name for s in self.sightings or ()}

    def of(self, short: str) -> Sighting:
        return next(s for s in self.sightings or () if s.spec.name == f"us-east/{short}")


@asynccontextmanager
async def followed(api: ClusterApi, **more: Any) -> AsyncIterator[Heard]:
    region = RegionSpec("us-east")
    source = Source("gpus", "kubernetes", region, api=api.url, namespace="ml", selector="app=vllm", **more)
    heard = Heard()
    task = spawn(follow_cluster(Following(source, heard.tell, heard.failures.append, heard.remark)), name="follow")
    try:
        yield heard
    finally:
        await stop(task)


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_pods_come_change_and_go() -> None:
    async with cluster_api() as api:
        api.put("endpointslices", slice_of("s", pod("a", "10.0.0.1"), pod("b", "10.0.0.2", ready=False)))
        async with followed(api) as heard:
            await until(lambda: heard.names() == {"us-east/a", "us-east/b"})
            assert (heard.of("a").ready, heard.of("b").ready) == (True, False)
            api.put("endpointslices", slice_of("s", pod("a", "10.0.0.1", terminating=True), pod("b", "10.0.0.2")))
            await until(lambda: heard.of("a").leaves is not None and heard.of("b").ready)
            api.put("endpointslices", slice_of("t", pod("c", "10.0.0.3")))
            api.put("endpointslices", slice_of("s", pod("b", "10.0.0.2")))
            await until(lambda: heard.names() == {"us-east/b", "us-east/c"})
            api.delete("endpointslices", "s")
            await until(lambda: heard.names() == {"us-east/c"})
            assert not heard.failures


async def test_annotations_of_services_are_followed() -> None:
    service: dict[str, Any] = {"metadata": {"name": "vllm", "namespace": "ml", "annotations": {"meridian/model": "m1"}}}
    async with cluster_api() as api:
        api.put("services", service)
        api.put("endpointslices", slice_of("s", pod("a")))
        async with followed(api) as heard:
            await until(lambda: heard.sightings is not None)
            assert heard.of("a").spec.models == ("m1",), "nothing is told before the annotations are known"
            service["metadata"]["annotations"]["meridian/model"] = "m2"
            api.put("services", service)
            await until(lambda: heard.of("a").spec.models == ("m2",))


async def test_services_that_may_not_be_read_are_remarked_and_do_not_matter() -> None:
    async with cluster_api(forbidden={"services"}) as api:
        api.put("endpointslices", slice_of("s", pod("a"), annotations={"meridian/model": "m"}))
        async with followed(api) as heard:
            await until(lambda: heard.sightings is not None)
            assert heard.of("a").spec.models == ("m",)
            assert [text.partition(":")[0] for text in heard.remarks] == ["Services cannot be read"]
            assert not heard.failures
            api.forbidden.clear()
            await until(lambda: not heard.remarks)


async def test_slices_that_may_not_be_read_are_a_failure() -> None:
    async with cluster_api(forbidden={"endpointslices"}) as api:
        api.put("endpointslices", slice_of("s", pod("a")))
        async with followed(api) as heard:
            await until(lambda: heard.failures)
            assert heard.sightings is None
            assert heard.failures[0].startswith("403: the service account may not read endpointslices.discovery.k8s.io")
            api.forbidden.clear()
            await until(lambda: heard.sightings is not None)


async def test_a_taint_of_a_node_is_watched_if_the_file_says_so() -> None:
    taint = {"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"}
    async with cluster_api() as api:
        api.put("nodes", {"metadata": {"name": "n1"}, "spec": {}})
        api.put("endpointslices", slice_of("s", pod("a", node="n1"), pod("b", "10.0.0.2", node="n2")))
        async with followed(api, nodes=True) as heard, followed(api) as blind:
            await until(lambda: heard.sightings is not None and blind.sightings is not None)
            assert heard.of("a").leaves is None
            api.put("nodes", {"metadata": {"name": "n1"}, "spec": {"taints": [taint]}})
            await until(lambda: heard.of("a").leaves is not None)
            assert heard.of("b").leaves is None
            api.put("nodes", {"metadata": {"name": "n1"}, "spec": {}})
            await until(lambda: heard.of("a").leaves is None)
            assert blind.of("a").leaves is None
        assert api.count("nodes", watch=False) == 1


async def test_outside_of_a_cluster_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    failures: list[str] = []
    source = Source("gpus", "kubernetes", RegionSpec("us-east"), selector="app=vllm")
    following = Following(source, lambda s: None, failures.append, lambda texts: None)
    task = spawn(follow_cluster(following), name="follow")
    try:
        await until(lambda: failures)
    finally:
        await stop(task)
    assert "does not run in a cluster" in failures[0]
