"""How the API of a cluster is asked, and what its refusals mean."""

from __future__ import annotations

import socket
from pathlib import Path

import aiohttp
import pytest

from router.config import Source
from router.core.types import RegionSpec
from router.discovery import cluster_api as module
from router.discovery.cluster_api import Cluster, ClusterError, GoneError, Resource
from tests.support.cluster_api import ClusterApi, cluster_api, pod, slice_of

SLICES = Resource(
    "/apis/discovery.k8s.io/v1/namespaces/ml/endpointslices", "endpointslices", "discovery.k8s.io", "ml", "app=vllm"
)


def source(api: ClusterApi, **more: str) -> Source:
    return Source("gpus", "kubernetes", RegionSpec("us-east"), api=api.url, **more)  # type: ignore[arg-type]


async def test_the_token_is_read_for_every_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with cluster_api(token="first") as api, Cluster(source(api, token_file=str(token))) as cluster:
        api.put("endpointslices", slice_of("a", pod("p")))
        assert len((await cluster.list(SLICES)).objects) == 1
        api.token = "second"
        with pytest.raises(ClusterError, match="401: the API does not accept the token"):
            await cluster.list(SLICES)
        token.write_text("second")
        assert len((await cluster.list(SLICES)).objects) == 1
        token.unlink()
        with pytest.raises(ClusterError, match="cannot be read"):
            await cluster.list(SLICES)


async def test_what_may_not_be_read_is_told_plainly() -> None:
    async with cluster_api(forbidden={"endpointslices"}) as api, Cluster(source(api)) as cluster:
        with pytest.raises(ClusterError) as refused:
            await cluster.list(SLICES)
    assert str(refused.value) == (
        "403: the service account may not read endpointslices.discovery.k8s.io in the namespace ml; its role needs get, "
        'list and watch there: endpointslices is forbidden: User "system:serviceaccount:ml:router" cannot list resource'
    )


async def test_what_is_forgotten_is_gone() -> None:
    async with cluster_api() as api, Cluster(source(api)) as cluster:
        api.forget()
        with pytest.raises(GoneError):
            async for _ in cluster.watch(SLICES, "1"):
                pass


async def test_what_has_never_been_is_gone_too() -> None:
    async with cluster_api() as api, Cluster(source(api)) as cluster:
        with pytest.raises(GoneError):
            async for _ in cluster.watch(SLICES, str(api.version + 1)):
                pass


async def test_a_silent_api_is_probed_by_the_system() -> None:
    """A watch says nothing for minutes; a machine that has died never will."""
    async with cluster_api() as api, Cluster(source(api)) as cluster:
        version = {"watch": "1", "resourceVersion": str(api.version)}
        response = await cluster.ask(SLICES, version, aiohttp.ClientTimeout(total=5))
        assert response.connection is not None
        assert response.connection.transport is not None
        sock = response.connection.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        response.close()


async def test_nobody_there() -> None:
    async with cluster_api() as api:
        pass
    async with Cluster(source(api)) as cluster:
        with pytest.raises(ClusterError, match="cannot be reached"):
            await cluster.list(SLICES)


async def test_outside_of_a_cluster_the_api_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    nowhere = Source("gpus", "kubernetes", RegionSpec("us-east"))
    with pytest.raises(ClusterError, match="does not run in a cluster"):
        Cluster(nowhere)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    monkeypatch.setattr(module, "ACCOUNT", tmp_path)
    (tmp_path / "namespace").write_text("ml")
    within = Cluster(nowhere)
    assert (within.url, within.namespace) == ("https://[fd00::1]:6443", "ml")


async def test_events_longer_than_a_buffer() -> None:
    async with cluster_api() as api, Cluster(source(api)) as cluster:
        many = [pod(f"p{n}", f"10.0.{n // 250}.{n % 250 + 1}") for n in range(2000)]
        api.put("endpointslices", slice_of("a", *many))
        async for event in cluster.watch(SLICES, "0"):
            if event.kind == "ADDED":
                assert len(event.object["endpoints"]) == 2000
                break
