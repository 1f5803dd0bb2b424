"""Reads the page with the metrics of a backend's GPUs: NVIDIA's DCGM exporter, or one of the others that there are.

https://github.com/NVIDIA/dcgm-exporter · https://github.com/utkuozdemir/nvidia_gpu_exporter (``nvidia_smi_*``) ·
https://github.com/mindprince/nvidia_gpu_prometheus_exporter (``nvidia_gpu_*``)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

from router.complaint import Complaint
from router.core.gpu_use import GpuSample
from router.core.types import BackendSpec
from router.observe.client import AskFailedError, EngineClient
from router.observe.exposition import PAGE_BYTES_MAX, Exposition

_log = logging.getLogger("router.observe")

#: Exporters read the GPUs every few seconds.
_EVERY_S = 5.0
_MEBIBYTE = 1024.0 * 1024.0


class _Names(NamedTuple):
    """The metrics of one exporter, and the factors that make them ratios, bytes and watts."""

    busy: str
    busy_factor: float
    used: str
    total: str | None  # None: ``free`` is told instead
    free: str | None
    bytes_factor: float
    power: str
    power_factor: float


_EXPORTERS = (
    _Names(
        "DCGM_FI_DEV_GPU_UTIL", 0.01, "DCGM_FI_DEV_FB_USED", None, "DCGM_FI_DEV_FB_FREE", _MEBIBYTE,
        "DCGM_FI_DEV_POWER_USAGE", 1.0,
    ),
    _Names(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 1.0, "DCGM_FI_DEV_FB_USED", None, "DCGM_FI_DEV_FB_FREE", _MEBIBYTE,
        "DCGM_FI_DEV_POWER_USAGE", 1.0,
    ),
    _Names(
        "nvidia_smi_utilization_gpu_ratio", 1.0, "nvidia_smi_memory_used_bytes", "nvidia_smi_memory_total_bytes", None,
        1.0, "nvidia_smi_power_draw_watts", 1.0,
    ),
    _Names(
        "nvidia_gpu_duty_cycle", 0.01, "nvidia_gpu_memory_used_bytes", "nvidia_gpu_memory_total_bytes", None, 1.0,
        "nvidia_gpu_power_usage_milliwatts", 0.001,
    ),
)  # fmt: skip
_WANTED = tuple(dict.fromkeys(n for e in _EXPORTERS for n in (e.busy, e.used, e.total, e.free, e.power) if n))


class GpuPage:
    """One page. ``feed`` it as it comes, then ask for its sample."""

    def __init__(self) -> None:
        self._page = Exposition(_WANTED)

    def feed(self, data: bytes) -> None:
        self._page.feed(data)

    def sample(self, now_s: float) -> GpuSample | None:
        """None: no exporter that is known has written this page."""
        self._page.close()
        for names in _EXPORTERS:
            busy = self._values(names.busy, names.busy_factor)
            if not busy or not all(0.0 <= value <= 1.05 for value in busy):
                continue
            power = self._values(names.power, names.power_factor)
            mean = sum(min(1.0, value) for value in busy) / len(busy)
            return GpuSample(now_s, len(busy), mean, self._memory(names), sum(power) if power else None)
        return None

    def _memory(self, names: _Names) -> float | None:
        used = sum(self._values(names.used, names.bytes_factor))
        total = sum(self._values(names.total or "", names.bytes_factor))
        total += used + sum(self._values(names.free, names.bytes_factor)) if names.free is not None else 0.0
        return used / total if total > 0.0 and 0.0 <= used <= total else None

    def _values(self, name: str, factor: float) -> list[float]:
        return [sample.value * factor for sample in self._page.samples(name)] if name else []


class GpuWatch:
    """Reads the page of one backend again and again. ``sample``: the last one; ``problem``: why there is no newer."""

    def __init__(
        self, spec: BackendSpec, client: EngineClient, *, timeout_s: float, now_s: Callable[[], float]
    ) -> None:
        parts = urlsplit(spec.gpu_metrics or "")
        self._name = spec.name
        self._place = replace(spec, name=f"{spec.name} gpu", url=f"{parts.scheme}://{parts.netloc}", key_env=None)
        self._path = f"{parts.path or '/metrics'}{f'?{parts.query}' if parts.query else ''}"
        self._client = client
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._complaint = Complaint()
        self.sample: GpuSample | None = None
        self.problem: str | None = None

    async def run(self) -> None:
        while True:
            await self.read()
            await asyncio.sleep(_EVERY_S)

    async def read(self) -> None:
        """Read once."""
        page, problem = GpuPage(), None
        try:
            answer = await self._client.ask(
                self._place, self._path, key=None, timeout_s=self._timeout_s, bytes_max=PAGE_BYTES_MAX, feed=page.feed
            )
            sample = page.sample(self._now_s()) if answer.status == 200 else None
            if sample is not None:
                self.sample = sample
            else:
                problem = f"status {answer.status}" if answer.status != 200 else "it has no metrics of GPUs"
        except AskFailedError as error:
            problem = str(error)
        self.problem = problem
        if problem is not None:
            if self._complaint.worth_a_line(problem, self._now_s()):
                _log.warning("the GPU metrics of backend %s cannot be read: %s", self._name, problem)
        elif self._complaint.settled():
            _log.info("the GPU metrics of backend %s are readable again", self._name)
