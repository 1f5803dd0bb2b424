"""The roll in force: fleet, connections and probes follow it, or nothing does."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from router import clock
from router.config import parse
from router.control.muster import Muster
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.roll import Sighting
from router.core.types import BackendSpec
from router.discovery.sources import Sources
from router.observe.observer import Observer
from router.upstream.chaos import Chaos
from router.upstream.pool import Network, Pools

CONFIG = parse(
    """
[[regions]]
name = "us-east"
  [[regions.backends]]
  name = "a"
  url = "http://127.0.0.1:1"
[[sources]]
name = "pods"
kind = "dns"
region = "us-east"
host = "none.internal:80"
""",
    "regions.toml",
)
EAST = CONFIG.regions[0].spec


class Scene:
    def __init__(self) -> None:
        self.fleet = Fleet(Params())
        self.pools = Pools(Network.new(clock.monotonic_s))
        self.sources = Sources(busy=lambda name: False)
        self.forgotten: set[str] = set()
        observer, chaos = Observer(self.fleet, CONFIG), Chaos(self.pools, clock.monotonic_s)
        self.muster = Muster(self.fleet, self.pools, observer, chaos, self.sources, forget=self.forgotten.update)
        self.muster.apply(CONFIG)

    def seen(self, *specs: BackendSpec) -> None:
        self.sources.tell("pods", [Sighting(spec) for spec in specs])
        self.sources.changed()

    def names(self) -> list[str]:
        assert list(self.fleet.backends) == [pool.spec.name for pool in self.pools]
        return list(self.fleet.backends)


def pod(short: str, **changes: str) -> BackendSpec:
    return replace(BackendSpec(f"us-east/{short}", EAST, f"http://127.0.0.2:{ord(short)}"), **changes)


async def test_what_comes_is_asked_and_what_goes_is_forgotten() -> None:
    scene = Scene()
    assert scene.names() == ["us-east/a"]
    scene.seen(pod("p"), pod("q"))
    assert scene.names() == ["us-east/a", "us-east/p", "us-east/q"]
    scene.seen(pod("q"))
    assert scene.names() == ["us-east/a", "us-east/q"]
    assert scene.forgotten == {"us-east/p"}


async def test_only_what_comes_while_clients_are_served_begins_slowly() -> None:
    scene = Scene()
    scene.seen(pod("p"))
    scene.muster.serving = True
    scene.seen(pod("p"), pod("q"))
    now_s = clock.monotonic_s()
    shares = {name: b.health.share(now_s) for name, b in scene.fleet.backends.items()}
    assert shares["us-east/a"] == shares["us-east/p"] == 1.0
    assert shares["us-east/q"] < 0.2


async def test_a_backend_that_cannot_be_used_changes_nothing(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, "router.control")
    scene = Scene()
    scene.seen(pod("p"))
    wrong = pod("q", url="https://127.0.0.2:9", tls_ca=str(tmp_path / "none.pem"))
    for _ in range(3):
        scene.seen(pod("p"), wrong)
    assert scene.names() == ["us-east/a", "us-east/p"]
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert "the backends that sources name cannot be used" in line
    scene.seen(pod("p"), pod("q"))
    assert scene.names() == ["us-east/a", "us-east/p", "us-east/q"]
