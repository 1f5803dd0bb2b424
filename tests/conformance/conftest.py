"""Three simulated regions of two engines each and a router in front, for the official clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sim.fleet import SimFleet
from tests.support.router import RouterProcess, Site

MODEL = "llama-3.1-8b"

HEAD = """
region = "us-east"
[plans.default]
[plans.tiny]
requests_per_minute = 2
"""


@dataclass
class World:
    router: RouterProcess
    fleet: SimFleet
    key: str

    @property
    def base_url(self) -> str:
        return f"{self.router.url}/v1"


def sites_of(fleet: SimFleet, engine: str = "vllm") -> list[Site]:
    out = []
    for backend in fleet.backends:
        region, _, name = backend.name.partition("/")
        jurisdiction = {"us-east": "us", "eu-central": "eu"}.get(region, "jp")
        out.append(Site(region, name, backend.url, engine=engine, jurisdiction=jurisdiction))
    return out


@pytest.fixture(scope="session", params=["vllm", "sglang", "llamacpp"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with (
        SimFleet(model=MODEL, engine=request.param) as fleet,
        RouterProcess(sites_of(fleet, request.param), head=HEAD) as r,
    ):
        yield World(r, fleet, r.create_key())
