"""Half an hour of churn at half load leaves nothing behind: memory level, and everything else back where it began.

The bulk comes from the load generator and the engines of bench/, which need a C compiler. Beside it: clients that leave,
read slowly, talk nonsense or ask for too much; backends that fail and flap; reloads; keys that change.

SOAK_MINUTES (30) and SOAK_RATE (whole answers a second, 1900) change the run. It is half load where the report's
``cpu_share`` is about a half. The report is printed (``make soak ARGS=-s``) and left in .cache/soak.json.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.soak import bulk
from tests.soak.churn import Clients, Engine, flap, harm, move_key, reload
from tests.support.backends import ScriptedBackend
from tests.support.router import ROOT, RouterProcess, Site
from tests.support.watched_router import census, descriptors, resident_bytes, sizes

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
WHOLE_HZ = float(os.environ.get("SOAK_RATE", "1900"))
STREAMS_HZ = WHOLE_HZ * 0.07
CHURN_HZ = 40.0
SLOPE_MAX_MB_H = 1.0
#: Until then memory grows by design: everything that has a limit fills up. What would take longer is the statistics of
#: the last 15 minutes and the prefixes of what ten engines hold; those of this router look back two, and hold little.
WARM_S = 360.0
STATS_WINDOW_S = 120
PREFIX_BLOCKS = 1000
#: Shorter runs see more noise than slope.
JUDGED_MINUTES = 20.0
SAMPLE_S = 2.0
#: What is left of the samples for the slope: each is the median of so many.
THINNED = 15
HEAD = """
chaos = true
[auth]
mode = "keys"
[plans.default]
requests_per_minute = 10000000
tokens_per_minute = 100000000000
concurrent = 5000
[plans.small]
requests_per_minute = 6
"""


@dataclass
class Slope:
    """The median of the slopes between all pairs of points, and the interval that holds it 19 times of 20.

    One step of the allocator is not a trend, and one odd sample moves nothing. Source: Theil (1950), Sen (1968).
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, points: list[tuple[float, float]]) -> Slope:
        slopes = sorted((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))
        n = len(points)
        half = 1.96 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18) / 2
        at = [int((len(slopes) - 1) / 2 - half), math.ceil((len(slopes) - 1) / 2 + half)]
        low, high = (slopes[min(max(place, 0), len(slopes) - 1)] for place in at)
        return cls(*(round(number, 3) for number in (median(slopes), low, high)))


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Medians of neighbours: what comes and goes within half a minute is no trend."""
    groups = [points[at : at + THINNED] for at in range(0, len(points) - THINNED + 1, THINNED)]
    return [(median(x for x, _ in group), median(y for _, y in group)) for group in groups]


@dataclass
class Report:
    minutes: float
    cpu_share: float = 0.0  # of one core, the router's
    answers_hz: float = 0.0  # whole ones and streams
    slope_mb_h: Slope | None = None
    malloc_mb_h: Slope | None = None  # in use, Python's small objects not among it
    python_blocks_h: Slope | None = None  # small objects of Python: 40 to 500 bytes each
    resident_mb_warm: float = 0.0
    resident_mb_end: float = 0.0
    bulk: dict[str, Any] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)  # of answers 5xx
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    resident_mb: list[float] = field(default_factory=list)  # 60 samples of the whole run
    sizes: list[dict[str, int]] = field(default_factory=list)  # once a minute: how full is what has a limit


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


class Watch:
    """Looks at the router's memory all the time."""

    def __init__(self, r: RouterProcess, report: Report, length_s: float, warm_s: float) -> None:
        self._r, self._report = r, report
        self._length_s, self._warm_s = length_s, warm_s
        #: what -> hours and MB or blocks, after the warm-up
        self.resident: list[tuple[float, float]] = []
        self.malloc: list[tuple[float, float]] = []
        self.python: list[tuple[float, float]] = []

    async def run(self) -> None:
        report, pid, began_s = self._report, self._r.process.pid, time.monotonic()
        while True:
            await asyncio.sleep(SAMPLE_S)
            at_s, resident_mb = time.monotonic() - began_s, resident_bytes(pid) / 1e6
            if at_s >= len(report.resident_mb) * self._length_s / 60:
                report.resident_mb.append(round(resident_mb, 2))
            held = await asyncio.to_thread(sizes, self._r.file)
            if at_s >= 60 * (len(report.sizes) + 1):
                report.sizes.append(held)
            if at_s >= self._warm_s:
                self.resident.append((at_s / 3600, resident_mb))
                self.malloc.append((at_s / 3600, held["malloc used"] / 1e6))
                self.python.append((at_s / 3600, held["python blocks"]))


async def soak(r: RouterProcess, backends: list[ScriptedBackend], engines: list[Site]) -> Report:
    pid, report = r.process.pid, Report(MINUTES)
    key, small, moved = [
        await asyncio.to_thread(r.ask_admin, "/admin/v1/keys", {"name": name, "plan": plan})
        for name, plan in (("many", "default"), ("few", "small"), ("moved", "default"))
    ]
    await asyncio.sleep(5)
    report.before = await asyncio.to_thread(holdings, r)
    length_s = MINUTES * 60
    port = int(r.listen.rpartition(":")[2])
    # Pages that only a peak needs are no leak. Without this one they would come whenever chance brings peaks.
    peak = bulk.Load(port, key["key"], 1.0, bulk.PEAK_S, bulk.PEAK)
    try:
        await asyncio.to_thread(peak.result)
    finally:
        peak.end()
    watch = Watch(r, report, length_s, WARM_S if MINUTES >= JUDGED_MINUTES else length_s / 2)
    clients = Clients(r, key["key"], small["key"], CHURN_HZ, seed=1)
    began_s, began_cpu_s = time.monotonic(), cpu_s(pid)
    loads = {
        "whole": bulk.Load(port, key["key"], WHOLE_HZ, length_s, bulk.WHOLE),
        "streams": bulk.Load(port, key["key"], STREAMS_HZ, length_s, bulk.STREAMS),
    }
    loop = asyncio.get_running_loop()
    harmed = [f"{site.region}/{site.name}" for site in engines]
    beside = [
        loop.create_task(c)
        for c in (
            watch.run(),
            forget(backends),
            flap(backends[0], 20),
            reload(r, 10),
            move_key(r, moved["id"], 5),
            harm(r, harmed, 15),
        )
    ]
    try:
        await clients.run(length_s)
        report.cpu_share = round((cpu_s(pid) - began_cpu_s) / (time.monotonic() - began_s), 3)
        for task in beside:
            task.cancel()
        ends = await asyncio.gather(*beside, return_exceptions=True)
        await clients.stop()
        report.bulk = {name: await asyncio.to_thread(load.result) for name, load in loads.items()}
    finally:
        for load in loads.values():
            load.end()
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
    report.answers_hz = round(sum(said["requests"] for said in report.bulk.values()) / length_s, 1)
    report.outcomes, report.causes = dict(clients.outcomes), dict(clients.causes.most_common())
    report.resident_mb_warm, report.resident_mb_end = (round(watch.resident[at][1], 2) for at in (0, -1))
    if len(watch.resident) >= 3 * THINNED:
        report.slope_mb_h = Slope.of(thinned(watch.resident))
        report.malloc_mb_h = Slope.of(thinned(watch.malloc))
        report.python_blocks_h = Slope.of(thinned(watch.python))
    report.after = await until_still(r, report.before)
    return report


async def forget(backends: list[ScriptedBackend]) -> None:
    """The backends of tests remember every call."""
    while True:
        await asyncio.sleep(2)
        for backend in backends:
            backend.calls.clear()


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 240)
async def test_churn_leaves_nothing_behind() -> None:
    backends = [ScriptedBackend(Engine(seed)) for seed in range(4)]
    for backend in backends:
        await backend.open()
    sites = [Site("east" if i < 2 else "west", f"b{i}", b.url, models=["m"]) for i, b in enumerate(backends)]
    with bulk.engines(6) as engines:
        router = RouterProcess(
            [*engines, *sites],
            head=HEAD,
            env={"STATS_WINDOW_S": str(STATS_WINDOW_S), "PREFIX_BLOCKS": str(PREFIX_BLOCKS)},
            command=("-m", "tests.support.watched_router"),
            errors_allowed=True,
        )
        async with router as r:
            report = await soak(r, backends, engines)
    for backend in backends:
        backend.calls.clear()
        await backend.shut()
    text = json.dumps(asdict(report), indent=1)
    (ROOT / ".cache").mkdir(exist_ok=True)
    (ROOT / ".cache" / "soak.json").write_text(text)
    print(text)
    judge(report)


def judge(report: Report) -> None:
    excess = {name: (report.before[name], n) for name, n in report.after.items() if n > report.before[name]}
    assert not excess, "held after everybody has left (before, after)"
    assert "500" not in report.outcomes, "the router itself failed"
    assert report.outcomes["streamed"] > 0.3 * sum(report.outcomes.values())
    for name, said in report.bulk.items():
        assert said["requests"] > 0
        assert said["stale"] <= said["requests"] * 1e-4, "closed for being idle"
        assert not any(said["errors"].values()), f"{name}: {said['sample']}"
    if MINUTES >= JUDGED_MINUTES:
        assert report.slope_mb_h is not None
        assert report.slope_mb_h.median <= SLOPE_MAX_MB_H
