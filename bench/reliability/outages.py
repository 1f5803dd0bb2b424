"""Nobody is there, or nobody who may be."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from bench.reliability.asking import Fate, clients, count
from bench.reliability.row import Outcome, Size, row
from bench.reliability.stage import FAR, NEAR, stage, until


@row(
    11,
    "every region is killed for 30 s (short: 4 s) under load, then back",
    "1 s to the first whole answer after it; no crash",
)
async def all_down(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=3) as c:
        await c.ask()
        for host in s.hosts.values():
            await asyncio.to_thread(host.kill)
        down = await c.pour(10, size.hold_s)
        await asyncio.gather(*(asyncio.to_thread(host.start) for host in s.hosts.values()))
        back_s = time.monotonic()
        first_s = None
        while first_s is None and time.monotonic() - back_s < 60:
            if (await c.ask()).fate() is Fate.WHOLE:
                first_s = time.monotonic() - back_s
        alive = s.router.process.poll() is None
        settled_s = await until(lambda: s.usable(NEAR), 60)
    fates = count(down)
    out.say("refused while down", fates[Fate.TOLD])
    out.say("first whole answer after", f"{first_s:.2f} s" if first_s is not None else "none")
    out.say("all regions after", f"{(first_s or 0) + settled_s:.1f} s")
    out.claim(fates[Fate.WRONG] + fates[Fate.CUT_SILENTLY] == 0, "misreported")
    out.claim(first_s is not None, "nobody was served again")
    out.in_time((first_s or 0.0) <= 1.0, "it took longer")
    out.claim(alive, "the router died")
    return out


@row(
    15,
    "a region that is up 2 s, down 2 s, by SIGKILL, for a minute (short: 12 s)",
    "0.1 % failed; it is tried ever less",
)
async def flapping(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=10) as c:
        cycles = 3 if size.short else 12
        streams = []
        shares = []
        for _ in range(cycles):
            asked = await c.pour(15, 2.0)
            await asyncio.to_thread(s.hosts[NEAR].kill)
            asked += await c.pour(15, 2.0)
            await asyncio.to_thread(s.hosts[NEAR].start)
            streams += asked
            await asyncio.sleep(0)
            shares.append(asked)
        await c.drain()
    fates = count(streams)
    failed = len(streams) - fates[Fate.WHOLE]
    near = [sum(t.region == NEAR for t in asked) / len(asked) for asked in shares]
    out.say("failed", f"{failed} of {len(streams)}")
    out.say("share of the region, cycle by cycle", " ".join(f"{share:.0%}" for share in near))
    out.claim(failed <= 0.001 * len(streams), f"{failed} failed")
    out.claim(fates[Fate.WRONG] + fates[Fate.CUT_SILENTLY] == 0, "misreported")
    return out


@row(17, "residency: only regions that are not allowed are alive", "0 requests cross, ever")
async def residency(size: Size) -> Outcome:
    out = Outcome()
    head = '[plans.default]\n[plans.european]\nresidency = ["eu"]\n'
    async with stage(NEAR, FAR, head=head, auth=True) as s, clients(s.router.url, max_tokens=10) as c:
        key = await asyncio.to_thread(s.router.create_key, "eu", "european")
        headers = {"authorization": f"Bearer {key}"}
        before = [c.open(headers=headers) for _ in range(10)]
        await asyncio.sleep(0.6)
        await asyncio.to_thread(s.hosts[FAR].kill)
        streams = [c.open(headers=headers) for _ in range(size.requests)]
        await c.drain()
        state = await asyncio.to_thread(s.near[0].state)
    crossed = sum(t.region == NEAR for t in before + streams)
    out.say("refused", dict(Counter(t.status for t in streams)))
    out.say("broken while streaming", sum(t.status == 200 for t in before))
    out.say("crossed", crossed)
    out.say("tokens made in the wrong region", state["output_tokens"])
    out.claim(crossed == 0 and state["output_tokens"] == 0, "requests crossed")
    out.claim(all(t.status in (502, 503) for t in streams), "not every request was refused")
    out.claim(streams[-1].status == 503, "the last was not told that no region may serve it")
    return out
