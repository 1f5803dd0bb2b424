"""The GPUs of a backend as operators and metrics are told of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from cli.region_states import gpu_story
from router.control.gpu_views import gpu, gpu_samples
from router.control.plane import ControlPlane
from router.core.gpu_use import GpuSample
from router.core.types import LoadSample
from router.telemetry.metrics import SPECS
from tests.support.fleets import MODEL, fleet_of


def plane(sample: GpuSample | None, *, problem: str | None = None, waiting: int = 0) -> tuple[ControlPlane, Any]:
    fleet = fleet_of("us-east/a", cost_usd_hour=10.0)
    backend = fleet.backends["us-east/a"]
    watch = SimpleNamespace(sample=sample, problem=problem)
    control = SimpleNamespace(
        observer=SimpleNamespace(gpus=lambda name: watch),
        now_s=lambda: 100.0,
        queued=lambda: {MODEL: waiting},
    )
    return cast(ControlPlane, control), backend


def test_a_reading_and_its_meaning() -> None:
    control, backend = plane(GpuSample(98.0, 8, 0.1, 0.5, 900.0), waiting=3)
    told = gpu(control, backend)
    assert told is not None
    assert (told["state"], told["idle_usd_hour"], told["age_s"]) == ("starved", 9.0, 2.0)
    assert "3 requests wait" in told["reason"]
    names = {sample.name for sample in gpu_samples(control, backend)}
    assert names == {name for name in SPECS if name.startswith("router_backend_gpu")}
    line = gpu_story(told)
    assert line is not None
    assert "starved" in line
    assert "900 W" in line
    assert "an hour for doing nothing" in line


def test_the_engines_own_queue_counts() -> None:
    control, backend = plane(GpuSample(98.0, 1, 0.97))
    backend.others.load = LoadSample(at_s=99.0, running=4, waiting=6)
    told = gpu(control, backend)
    assert told is not None
    assert (told["state"], told["reason"]) == ("saturated", "97% busy, and 6 requests wait in the engine")


def test_what_is_old_or_was_never_read_is_unknown() -> None:
    for sample in (None, GpuSample(10.0, 8, 0.5)):
        control, backend = plane(sample, problem="status 503")
        told = gpu(control, backend)
        assert told is not None
        assert told["gpus"] is None
        assert not list(gpu_samples(control, backend))
        assert "status 503" in (gpu_story(told) or "")


def test_without_a_page_nothing_is_said() -> None:
    control, backend = plane(None)
    control.observer.gpus = lambda name: None  # type: ignore[method-assign]
    assert gpu(control, backend) is None
    assert gpu_story(None) is None
