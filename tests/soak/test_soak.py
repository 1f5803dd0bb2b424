"""Half an hour of churn at half load leaves nothing behind: memory level, and everything else back where it began.

SOAK_MINUTES (30) and SOAK_RATE (requests a second, 200) change the run. The figures are printed: ``make soak ARGS=-s``.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import linear_regression, median

import pytest

from tests.soak.churn import Clients, Engine, flap, reload
from tests.support.backends import ScriptedBackend
from tests.support.router import ROOT, RouterProcess, Site
from tests.support.watched_router import census, descriptors, resident_bytes

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
RATE_HZ = float(os.environ.get("SOAK_RATE", "200"))
SLOPE_MAX_MB_H = 1.0
#: The statistics remember 15 minutes; until then memory grows by design.
WARM_S = 960.0
#: Shorter runs see more noise than slope.
JUDGED_MINUTES = 20.0
HEAD = """
[auth]
mode = "keys"
[plans.default]
requests_per_minute = 10000000
tokens_per_minute = 100000000000
concurrent = 5000
"""


@dataclass
class Report:
    minutes: float
    rate_hz: float
    outcomes: dict[str, int]
    cpu_share: float  # of one core, the router's
    resident_mb_warm: float
    resident_mb_end: float
    slope_mb_h: float  # the median of pairs, which is judged
    least_squares_mb_h: float
    resident_mb: list[float]  # 60 samples of the whole run
    before: dict[str, int]
    after: dict[str, int]


def slope(points: list[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs (Theil and Sen): one step of the allocator is not a trend."""
    thinned = points[:: max(1, len(points) // 100)]
    return median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(thinned, 2))


def holdings(r: RouterProcess) -> dict[str, int]:
    """What should be as it was when everybody has left."""
    status = r.ask_admin("/admin/v1/status")["traffic"]
    found = census(r.file)
    return {**found, "descriptors": descriptors(r.process.pid), **{k: int(status[k]) for k in ("inflight", "queued")}}


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def until_still(r: RouterProcess, before: dict[str, int]) -> dict[str, int]:
    """What is held once the last idle connections are gone; the router gets 30 s for it."""
    for _ in range(30):
        after = await asyncio.to_thread(holdings, r)
        if all(after[name] <= before[name] for name in before):
            return after
        await asyncio.sleep(1)
    return after


async def soak(r: RouterProcess, backends: list[ScriptedBackend]) -> Report:
    pid = r.process.pid
    clients = Clients(r, await asyncio.to_thread(r.create_key), RATE_HZ, seed=1)
    await asyncio.sleep(5)
    before = await asyncio.to_thread(holdings, r)
    length_s = MINUTES * 60
    warm_s = max(0.3 * length_s, 20) if MINUTES < JUDGED_MINUTES else WARM_S
    began_s, began_cpu_s = time.monotonic(), cpu_s(pid)
    points: list[tuple[float, float]] = []
    course: list[float] = []

    async def sample() -> None:
        while True:
            await asyncio.sleep(2)
            for backend in backends:
                backend.calls.clear()
            at_s = time.monotonic() - began_s
            if at_s >= len(course) * length_s / 60:
                course.append(round(resident_bytes(pid) / 1e6, 2))
            if at_s >= warm_s:
                points.append((at_s / 3600, resident_bytes(pid) / 1e6))

    loop = asyncio.get_running_loop()
    beside = [loop.create_task(c) for c in (sample(), flap(backends[0], 20), reload(r, 10))]
    await clients.run(length_s)
    share = (cpu_s(pid) - began_cpu_s) / (time.monotonic() - began_s)
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    await clients.stop()
    after = await until_still(r, before)
    return Report(
        MINUTES,
        RATE_HZ,
        dict(clients.outcomes),
        round(share, 3),
        round(points[0][1], 2),
        round(points[-1][1], 2),
        round(slope(points), 3),
        round(linear_regression(*zip(*points, strict=True)).slope, 3),
        course,
        before,
        after,
    )


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 240)
async def test_churn_leaves_nothing_behind() -> None:
    backends = [ScriptedBackend(Engine(seed)) for seed in range(4)]
    for backend in backends:
        await backend.open()
    sites = [Site("east" if i < 2 else "west", f"b{i}", b.url) for i, b in enumerate(backends)]
    router = RouterProcess(
        sites, head=HEAD, command=("-m", "tests.support.watched_router"), errors_allowed=True, wait="/readyz"
    )
    async with router as r:
        report = await soak(r, backends)
    for backend in backends:
        backend.calls.clear()
        await backend.shut()
    text = json.dumps(asdict(report), indent=1)
    (ROOT / ".cache").mkdir(exist_ok=True)
    (ROOT / ".cache" / "soak.json").write_text(text)
    print(text)
    excess = {name: (report.before[name], n) for name, n in report.after.items() if n > report.before[name]}
    assert not excess, "held after everybody has left (before, after)"
    assert "500" not in report.outcomes, "the router itself failed"
    assert report.outcomes["streamed"] > 0.3 * sum(report.outcomes.values())
    if MINUTES >= JUDGED_MINUTES:
        assert report.slope_mb_h <= SLOPE_MAX_MB_H
