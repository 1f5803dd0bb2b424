"""The GPUs of backends: how busy they are, what idle ones cost, and whether engines starve or are saturated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from router.control.plane import ControlPlane
from router.core.backend import Backend
from router.core.gpu_use import GPU_STATES, gpu_state, idle_usd_hour
from router.telemetry.metrics import GaugeSample


def gpu(control: ControlPlane, b: Backend) -> dict[str, Any] | None:
    """None where the configuration names no page of GPUs; unknown figures are null."""
    watch = control.observer.gpus(b.name)
    if watch is None:
        return None
    now_s, sample = control.now_s(), watch.sample
    if sample is None or not sample.fresh(now_s):
        return dict.fromkeys(_NAMES) | {"problem": watch.problem}
    load = b.others.fresh_load(now_s)
    queued = control.queued()
    state, reason = gpu_state(
        sample,
        inflight=b.inflight + b.others.peers_now(now_s),
        engine_waits=load.waiting if load is not None and load.waiting is not None else 0,
        router_waits=sum(queued.get(model, 0) for model in b.models or ()),
    )
    return {
        "gpus": sample.gpus,
        "busy_ratio": sample.busy_ratio,
        "memory_ratio": sample.memory_ratio,
        "power_w": sample.power_w,
        "idle_usd_hour": idle_usd_hour(sample, b.spec.cost_usd_hour),
        "state": state,
        "reason": reason,
        "age_s": now_s - sample.at_s,
        "problem": watch.problem,
    }


_NAMES = ("gpus", "busy_ratio", "memory_ratio", "power_w", "idle_usd_hour", "state", "reason", "age_s", "problem")


def gpu_samples(control: ControlPlane, b: Backend) -> Iterator[GaugeSample]:
    found, labels = gpu(control, b), (b.region, b.name)
    if found is None or found["gpus"] is None:
        return
    yield GaugeSample("router_backend_gpus", labels, found["gpus"])
    yield GaugeSample("router_backend_gpu_busy_ratio", labels, found["busy_ratio"])
    yield GaugeSample("router_backend_gpu_idle_usd_per_hour", labels, found["idle_usd_hour"])
    if found["memory_ratio"] is not None:
        yield GaugeSample("router_backend_gpu_memory_ratio", labels, found["memory_ratio"])
    if found["power_w"] is not None:
        yield GaugeSample("router_backend_gpu_power_watts", labels, found["power_w"])
    for state in GPU_STATES:
        yield GaugeSample("router_backend_gpu_state", (*labels, state), found["state"] == state)
