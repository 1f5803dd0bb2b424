"""A router that can serve nobody says so, and why."""

from __future__ import annotations

from router.control.readiness import why_nobody_is_served
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec


def fleet(*models: tuple[str, ...]) -> Fleet:
    made = Fleet(Params(), router_region=None)
    region = RegionSpec("r")
    specs = [BackendSpec(f"r/{n}", region, f"http://h{n}", models=names) for n, names in enumerate(models)]
    made.apply(specs, 0.0)
    return made


def why(made: Fleet) -> str | None:
    return why_nobody_is_served(made.backends.values(), 1.0)


def test_a_router_without_backends() -> None:
    assert why(fleet()) == "no usable backend: the configuration names none"


def test_models_in_the_configuration_are_no_sign_of_life() -> None:
    made = fleet(("m",), ("m",))
    assert why(made) == "no usable backend: 2 not heard of yet"
    made.backends["r/0"].requests_total = 1
    assert why(made) is None


def test_every_reason_is_named_with_its_number() -> None:
    made = fleet(("m",), ("m",), ())
    for backend in made.backends.values():
        backend.requests_total = 1
    made.set_draining("r/0", True)
    made.set_draining("r/1", True)
    assert why(made) == "no usable backend: 2 draining, 1 without a model"
    made.set_draining("r/1", False)
    assert why(made) is None
