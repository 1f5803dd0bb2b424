"""Whether the GPUs of a backend have enough to do, from their own utilisation and from what waits for them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from router.words import plural

#: Above this busy, and with requests waiting, GPUs are saturated; below that busy they have little to do.
_SATURATED_RATIO = 0.9
_STARVED_RATIO = 0.3
_IDLE_RATIO = 0.05
#: Older readings are unknown.
FRESH_S = 60.0
GPU_STATES = ("saturated", "starved", "idle", "working")


@dataclass(frozen=True, slots=True)
class GpuSample:
    """The GPUs of one page: how many, how busy on average (0 to 1), how full their memory is, and their power."""

    at_s: float
    gpus: int
    busy_ratio: float
    memory_ratio: float | None = None
    power_w: float | None = None

    def fresh(self, now_s: float) -> bool:
        return now_s - self.at_s <= FRESH_S


def idle_usd_hour(sample: GpuSample, cost_usd_hour: float) -> float:
    """The part of a backend's price that is paid for GPUs which do nothing."""
    return cost_usd_hour * max(0.0, 1.0 - sample.busy_ratio)


def gpu_state(sample: GpuSample, *, inflight: float, engine_waits: float, router_waits: float) -> tuple[str, str]:
    """One of ``GPU_STATES``, and why. ``inflight``: requests there, of all routers; ``engine_waits``: in the engine's
    queue; ``router_waits``: in routers' queues for a model that it serves."""
    busy = f"{sample.busy_ratio:.0%} busy"
    waits = round(engine_waits + router_waits)
    waiting = f"{plural(waits, 'request')} {'waits' if waits == 1 else 'wait'}"
    flying = f"{plural(round(inflight), 'request')} {'is' if round(inflight) == 1 else 'are'} in flight"
    if sample.busy_ratio >= _SATURATED_RATIO and waits:
        where = "in the engine" if engine_waits >= router_waits else "in routers"
        return "saturated", f"{busy}, and {waiting} {where}"
    if sample.busy_ratio < _STARVED_RATIO and waits:
        return "starved", f"{busy} while {waiting}: something before the GPUs is the bottleneck"
    if sample.busy_ratio < _IDLE_RATIO and inflight >= 1:
        return "starved", f"{busy} while {flying}: the engine waits for something else"
    if sample.busy_ratio < _IDLE_RATIO:
        return "idle", f"{busy}, and hardly any requests come"
    return "working", busy
