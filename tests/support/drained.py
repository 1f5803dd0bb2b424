"""A router's drains over a fleet of three backends in two regions."""

from __future__ import annotations

from router.control.drains import Drains
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec
from tests.support.shared_store import SharedStore

EAST, WEST = RegionSpec("us-east"), RegionSpec("us-west")
SPECS = [
    BackendSpec("us-east/a", EAST, "http://h:1", models=("m",)),
    BackendSpec("us-east/b", EAST, "http://h:2", models=("m",)),
    BackendSpec("us-west/a", WEST, "http://h:3", models=("m",)),
]


def router(store: SharedStore) -> tuple[Drains, Fleet]:
    fleet = Fleet(Params())
    fleet.apply(SPECS, 0.0)
    return Drains(fleet, store), fleet


def draining(fleet: Fleet) -> set[str]:
    return {b.name for b in fleet.backends.values() if b.draining}
