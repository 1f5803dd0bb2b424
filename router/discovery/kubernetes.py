"""Follows the EndpointSlices of a selector, and beside them the annotations of their Services and, if the file asks for
it, the nodes. A cluster that may not be read in part tells the rest."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from router import clock
from router.config import Source
from router.discovery.cluster_api import Cluster, ClusterError, Resource
from router.discovery.mirror import Mirror
from router.discovery.slices import annotations_of, node_of, read_slices
from router.tasks import spawn, stop

if TYPE_CHECKING:
    from router.discovery.sources import Following

_AGAIN_S = 5.0


async def follow_cluster(following: Following) -> None:
    while True:
        try:
            cluster = Cluster(following.source)
        except ClusterError as error:
            following.fail(str(error))
            await asyncio.sleep(_AGAIN_S)
            continue
        async with cluster:
            await _Cluster(cluster, following).run()


class _Cluster:
    """One source: up to three mirrors, and what follows from them."""

    def __init__(self, cluster: Cluster, following: Following) -> None:
        self._following = following
        self._source = source = following.source
        self._failures: dict[str, str] = {}
        #: the slices cannot be read: news of the others do not make up for them
        self._is_away = False
        make = partial(Mirror, cluster)
        self._slices = make(_slices(source, cluster.namespace), changed=self._listed, failed=self._away)
        self._others = {"Services": self._beside("Services", make, _services(cluster.namespace), annotations_of)}
        if source.nodes:
            self._others["nodes"] = self._beside("nodes", make, Resource("/api/v1/nodes", "nodes"), node_of)

    def _beside(self, what: str, make: Any, resource: Resource, keep: Any) -> Mirror:
        mirror: Mirror = make(
            resource, changed=partial(self._known, what), failed=partial(self._unknown, what), keep=keep
        )
        return mirror

    async def run(self) -> None:
        mirrors = [self._slices, *self._others.values()]
        tasks = [spawn(mirror.run(), name=f"watch {mirror.resource.plural}") for mirror in mirrors]
        try:
            await asyncio.gather(*tasks)
        finally:
            await stop(*tasks)

    def _listed(self) -> None:
        self._is_away = False
        self._heard()

    def _away(self, why: str) -> None:
        self._is_away = True
        self._following.fail(why)

    def _known(self, what: str) -> None:
        self._failures.pop(what, None)
        self._heard()

    def _unknown(self, what: str, why: str) -> None:
        self._failures[what] = f"{what} cannot be read: {why}"
        self._heard()

    def _heard(self) -> None:
        """Tell what is known, once everything is known that can be."""
        waiting = [what for what, m in self._others.items() if m.objects is None and what not in self._failures]
        if self._slices.objects is None or self._is_away or waiting:
            return
        told = read_slices(
            self._source,
            self._slices.objects.values(),
            self._others["Services"].objects or {},
            (self._others["nodes"].objects or {}) if "nodes" in self._others else {},
            now_s=clock.monotonic_s(),
            wall_s=clock.wall_s(),
        )
        self._following.remark([*self._failures.values(), *told.remarks])
        self._following.tell(told.sightings)


def _slices(source: Source, namespace: str) -> Resource:
    group = "discovery.k8s.io"
    path = f"/apis/{group}/v1/namespaces/{namespace}/endpointslices"
    return Resource(path, "endpointslices", group, namespace, source.selector)


def _services(namespace: str) -> Resource:
    """All of them: labels of slices may be other than those of their Services."""
    return Resource(f"/api/v1/namespaces/{namespace}/services", "services", "", namespace)
