"""Sources as the admin API shows them (router.control.source_views): what is said, apart from what is measured."""

from __future__ import annotations

from router import clock
from router.config import parse
from router.control.source_views import source_of, sources
from router.core.roll import Leaves, Sighting
from router.core.types import BackendSpec
from tests.support.control import TOML, Admin

PODS = """
[[sources]]
name = "pods"
kind = "dns"
region = "us-east"
host = "none.internal:80"
nameserver = "127.0.0.1:1"
"""


async def test_what_a_source_says_of_each(admin: Admin) -> None:
    owner, control = admin.control.sources, admin.control
    config = parse(TOML + PODS, str(admin.path))
    owner.reload(config)
    region = config.regions[0].spec

    def seen(short: str, ready: bool = True, leaves: Leaves | None = None) -> Sighting:
        return Sighting(BackendSpec(f"us-east/{short}", region, f"http://{short}:1"), ready, leaves, (("node", "n1"),))

    def says() -> dict[str, str]:
        owner.changed()
        found = {b.name: source_of(control, b) for b in control.fleet.backends.values()}
        return {name.partition("/")[2]: str(s["says"]) for name, s in found.items() if s["name"] == "pods"}

    owner.tell("pods", [seen("p"), seen("q"), seen("r")])
    assert says() == {"p": "ready", "q": "ready", "r": "ready"}
    ends = Leaves(clock.monotonic_s() + 60.0, "its pod is terminating")
    owner.tell("pods", [seen("p", ready=False), seen("q", leaves=ends), seen("r")])
    assert says() == {"p": "not_ready", "q": "leaving", "r": "ready"}
    held = control.fleet.backends["us-east/p"]
    assert held.withdrawn
    assert source_of(control, held)["facts"] == {"node": "n1"}
    (document,) = [s for s in sources(control) if s["name"] == "pods"]
    assert (document["kind"], document["region"], document["backends"], document["in_use"]) == ("dns", "us-east", 3, 1)


async def test_how_each_source_is(admin: Admin) -> None:
    owner, control = admin.control.sources, admin.control
    config = parse(TOML + PODS, str(admin.path))
    owner.reload(config)
    region = config.regions[0].spec

    def state() -> tuple[str, str | None]:
        owner.changed()
        (document,) = [s for s in sources(control) if s["name"] == "pods"]
        return document["state"], document["problem"]

    owner.tell("pods", [Sighting(BackendSpec("us-east/p", region, "http://p:1"))])
    assert state() == ("heard", None)
    owner.fail("pods", "nobody answers")
    assert state() == ("away", "nobody answers")
    owner.tell("pods", [])
    assert state() == ("doubted", None)
    owner.tell("pods", [Sighting(BackendSpec("us-east/a", region, "http://a:1"))])
    owner.changed()
    (document,) = [s for s in sources(control) if s["name"] == "pods"]
    assert document["left_out"] == ["us-east/a of pods has the name of a backend of file"]
