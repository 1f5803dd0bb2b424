"""Pages of GPU exporters: what is read of them, and of pages that are none."""

from __future__ import annotations

import pytest
from aiohttp import web

from router.core.types import BackendSpec, RegionSpec
from router.observe.client import EngineClient
from router.observe.gpus import GpuPage, GpuWatch
from tests.unit.test_counters import Clock

DCGM = b"""\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 90
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-2",device="nvidia1",modelName="NVIDIA H100 80GB HBM3",Hostname="n1"} 30
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-1"} 20000
DCGM_FI_DEV_FB_FREE{gpu="1",UUID="GPU-2"} 20000
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1"} 60000
DCGM_FI_DEV_FB_USED{gpu="1",UUID="GPU-2"} 60000
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-1"} 640.5
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-2"} 159.5
"""
SMI = b"""\
nvidia_smi_utilization_gpu_ratio{uuid="1"} 0.5
nvidia_smi_memory_used_bytes{uuid="1"} 3e9
nvidia_smi_memory_total_bytes{uuid="1"} 4e9
nvidia_smi_power_draw_watts{uuid="1"} 70
"""
DUTY = b'nvidia_gpu_duty_cycle{minor_number="0"} 40\nnvidia_gpu_power_usage_milliwatts{minor_number="0"} 35000\n'


@pytest.mark.parametrize(
    ("page", "want"),
    [
        (DCGM, (2, 0.6, 0.75, 800.0)),
        (SMI, (1, 0.5, 0.75, 70.0)),
        (DUTY, (1, 0.4, None, 35.0)),
        (b'DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0"} 0.25\n', (1, 0.25, None, None)),
    ],
)
def test_exporters_are_read(page: bytes, want: tuple[int, float, float | None, float | None]) -> None:
    reader = GpuPage()
    for at in range(0, len(page), 37):
        reader.feed(page[at : at + 37])
    sample = reader.sample(5.0)
    assert sample is not None
    assert (sample.gpus, sample.memory_ratio, sample.power_w) == (want[0], want[2], want[3])
    assert sample.busy_ratio == pytest.approx(want[1])
    assert sample.at_s == 5.0


@pytest.mark.parametrize("page", [b"", b"<html>", b"node_load1 3\n", b"DCGM_FI_DEV_GPU_UTIL 900\n"])
def test_other_pages_are_unknown(page: bytes) -> None:
    reader = GpuPage()
    reader.feed(page)
    assert reader.sample(0.0) is None


async def test_a_page_that_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    answers = [(200, DCGM), (503, b""), (200, b"nothing"), (200, DCGM)]

    async def page(request: web.Request) -> web.Response:
        status, body = answers.pop(0)
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_get("/metrics", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    spec = BackendSpec("us/a", RegionSpec("us"), url="http://10.0.0.1", gpu_metrics=f"{url}/metrics")
    client, clock = EngineClient(), Clock()
    watch = GpuWatch(spec, client, timeout_s=5.0, now_s=clock)
    try:
        problems = []
        for _ in range(4):
            await watch.read()
            clock.at_s += 5.0
            problems.append(watch.problem)
    finally:
        await client.close()
        await runner.cleanup()
    assert problems == [None, "status 503", "it has no metrics of GPUs", None]
    assert watch.sample is not None
    assert watch.sample.at_s == 15.0
    assert "GPU metrics of backend us/a cannot be read: status 503" in caplog.text
