"""A copy of the objects of one kind, over a real API on loopback: watched on after every interruption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from router.config import Source
from router.core.types import RegionSpec
from router.discovery import mirror as module
from router.discovery.cluster_api import Cluster, Resource
from router.discovery.mirror import Mirror
from router.tasks import spawn, stop
from tests.support.cluster_api import ClusterApi, cluster_api, pod, slice_of

PATH = "/apis/discovery.k8s.io/v1/namespaces/ml/endpointslices"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.02)
    monkeypatch.setattr(module, "_PAUSE_S_MAX", 0.1)


@asynccontextmanager
async def mirrored(api: ClusterApi, failed: Callable[[str], None] = lambda why: None) -> AsyncIterator[Mirror]:
    source = Source("gpus", "kubernetes", RegionSpec("us-east"), api=api.url, namespace="ml", selector="app=vllm")
    async with Cluster(source) as cluster:
        resource = Resource(PATH, "endpointslices", "discovery.k8s.io", "ml", "app=vllm")
        mirror = Mirror(cluster, resource, changed=lambda: None, failed=failed)
        task = spawn(mirror.run(), name="mirror")
        try:
            yield mirror
        finally:
            await stop(task)


async def has(mirror: Mirror, *names: str) -> None:
    await until(lambda: mirror.objects is not None and set(mirror.objects) == {f"ml/{name}" for name in names})


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_it_lists_page_by_page_and_then_watches() -> None:
    async with cluster_api(page=2) as api:
        for name in "abcde":
            api.put("endpointslices", slice_of(name, pod("p")))
        api.put("endpointslices", slice_of("other", labels={"app": "web"}))
        async with mirrored(api) as mirror:
            await has(mirror, *"abcde")
            api.put("endpointslices", slice_of("f", pod("p")))
            api.delete("endpointslices", "a")
            await has(mirror, *"bcdef")
            assert (mirror.lists, api.count("endpointslices", watch=False)) == (1, 3)
            assert api.count("endpointslices", watch=True) == 1
            assert all(query["labelSelector"] == "app=vllm" for _, query in api.asked)


async def test_a_watch_that_breaks_off_is_taken_up_where_it_was() -> None:
    async with cluster_api(bookmark_s=60) as api:
        api.put("endpointslices", slice_of("a"))
        async with mirrored(api) as mirror:
            await has(mirror, "a")
            await until(lambda: api.count("endpointslices", watch=True) == 1)
            api.cut()
            api.put("endpointslices", slice_of("b"))
            await has(mirror, "a", "b")
            assert mirror.lists == 1, "nothing is listed a second time"


async def test_bookmarks_move_the_place_forward_while_nothing_changes() -> None:
    async with cluster_api(bookmark_s=0.02) as api:
        api.put("endpointslices", slice_of("a"))
        async with mirrored(api) as mirror:
            await has(mirror, "a")
            for n in range(5):
                api.put("services", {"metadata": {"name": f"s{n}", "namespace": "ml"}})
            api.forget()  # the place where the list was is forgotten; a bookmark has led on
            await until(lambda: mirror.version == str(api.version))
            api.cut()
            api.put("endpointslices", slice_of("b"))
            await has(mirror, "a", "b")
            assert mirror.lists == 1


@pytest.mark.parametrize("how", ["event", "status"])
async def test_all_is_listed_again_after_410(how: str) -> None:
    async with cluster_api(bookmark_s=60) as api:
        api.put("endpointslices", slice_of("a"))
        api.put("endpointslices", slice_of("b"))
        async with mirrored(api) as mirror:
            await has(mirror, "a", "b")
            await until(lambda: api.count("endpointslices", watch=True) == 1)
            api.down = True
            api.cut()
            await until(lambda: api.count("endpointslices", watch=True) >= 2)
            api.delete("endpointslices", "a")
            api.put("endpointslices", slice_of("c"))
            if how == "status":
                api.forget()
            api.down = False
            if how == "event":
                await has(mirror, "b", "c")
                api.tell_gone()
                await until(lambda: mirror.lists == 2)
                api.put("endpointslices", slice_of("d"))
                await has(mirror, "b", "c", "d")
            else:
                await has(mirror, "b", "c")
            assert mirror.lists == 2


async def test_an_api_that_is_away_changes_nothing_and_is_not_hammered() -> None:
    failed: list[str] = []
    async with cluster_api() as api:
        api.put("endpointslices", slice_of("a"))
        async with mirrored(api, failed.append) as mirror:
            await has(mirror, "a")
            api.down = True
            api.cut()
            await until(lambda: len(failed) >= 3)
            assert set(mirror.objects or ()) == {"ml/a"}
            assert any("503" in why for why in failed)
            api.down = False
            api.put("endpointslices", slice_of("b"))
            await has(mirror, "a", "b")


async def test_a_cluster_that_was_restored_from_a_backup_is_listed_again() -> None:
    """Its versions are lower than the last one that was seen: a watch from there is refused, for as long as that is so."""
    async with cluster_api() as api:
        api.put("endpointslices", slice_of("a", pod("p")))
        async with mirrored(api) as mirror:
            await has(mirror, "a")
            api.restore(50)
            api.put("endpointslices", slice_of("b", pod("q")))
            await has(mirror, "a", "b")
            assert mirror.lists == 2
