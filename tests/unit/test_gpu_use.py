"""Whether GPUs have enough to do, and what idle ones cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.gpu_use import GPU_STATES, GpuSample, gpu_state, idle_usd_hour


@pytest.mark.parametrize(
    ("busy", "inflight", "engine", "routers", "state", "words"),
    [
        (0.97, 30, 7, 0, "saturated", "7 requests wait in the engine"),
        (0.97, 30, 0, 4, "saturated", "4 requests wait in routers"),
        (0.97, 30, 1, 0, "saturated", "1 request waits in the engine"),
        (0.10, 8, 1, 0, "starved", "while 1 request waits: something before"),
        (0.01, 1, 0, 0, "starved", "while 1 request is in flight"),
        (0.97, 30, 0, 0, "working", "97% busy"),
        (0.10, 8, 5, 0, "starved", "something before the GPUs"),
        (0.01, 5, 0, 0, "starved", "waits for something else"),
        (0.01, 0, 0, 0, "idle", "hardly any requests"),
        (0.50, 5, 0, 0, "working", "50% busy"),
    ],
)
def test_the_state_and_its_reason(
    busy: float, inflight: float, engine: float, routers: float, state: str, words: str
) -> None:
    found, why = gpu_state(GpuSample(0.0, 8, busy), inflight=inflight, engine_waits=engine, router_waits=routers)
    assert found == state
    assert words in why


@given(st.floats(0, 1), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4))
def test_there_is_always_one(busy: float, inflight: float, engine: float, routers: float) -> None:
    found, why = gpu_state(GpuSample(0.0, 1, busy), inflight=inflight, engine_waits=engine, router_waits=routers)
    assert found in GPU_STATES
    assert f"{busy:.0%}" in why


def test_what_does_nothing_costs() -> None:
    assert idle_usd_hour(GpuSample(0.0, 8, 0.25), 40.0) == 30.0
    assert idle_usd_hour(GpuSample(0.0, 8, 1.0), 40.0) == 0.0


def test_an_old_reading_is_unknown() -> None:
    assert GpuSample(100.0, 1, 0.5).fresh(150.0)
    assert not GpuSample(100.0, 1, 0.5).fresh(200.0)
