"""Backends that answer, and badly."""

from __future__ import annotations

import asyncio

from bench.reliability.asking import Fate, Stream, clients, count, quantile
from bench.reliability.row import Outcome, Size, row
from bench.reliability.stage import FAR, NEAR, stage, until


@row(5, "connections reset as soon as they are accepted", "20 ms added to answers that met one (p99 100 ms), 0 failed")
async def resets(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=3) as c:
        undisturbed = await _in_turn(c, size.requests // 3, 0.02)
        base_s = 0.08 + quantile((t.first_token_s or 9.0 for t in undisturbed), 0.5)  # and once to the far region
        await s.fault(s.near, "accept_reset")
        streams = await _in_turn(c, size.requests, 0.02)
    fates = count(streams)
    retried = [t for t in streams if t.headers.get("x-router-attempts", "1") != "1"]
    added = [(t.first_token_s or 9.0) - base_s for t in retried]
    out.say("met one", len(retried))
    out.say("added p50", f"{quantile(added, 0.5) * 1000:.0f} ms")
    out.say("added p99", f"{quantile(added, 0.99) * 1000:.0f} ms")
    out.say("failed", len(streams) - fates[Fate.WHOLE])
    out.claim(fates[Fate.WHOLE] == len(streams), "some failed")
    out.in_time(quantile(added, 0.5) <= 0.02, "more was added")
    out.in_time(quantile(added, 0.99) <= 0.1, "much more was added to some")
    return out


async def _in_turn(c, number: int, gap_s: float) -> list[Stream]:  # type: ignore[no-untyped-def]
    streams = []
    for _ in range(number):
        streams.append(c.open())
        await asyncio.sleep(gap_s)
    await c.drain()
    return streams


@row(
    8,
    "30 % of a region's answers are 500; then 429 with retry-after; then one client sends nothing but 400s",
    "99.9 % whole; the 400s eject nobody",
)
async def errors(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=3) as c:
        all_streams: list[Stream] = []
        for fault in (
            {"status": 500, "probability": 0.3},
            {"status": 429, "retry_after_s": 1, "probability": 0.3},
        ):
            await s.reset(s.near)
            await s.fault(s.near, "error_status", **fault)
            all_streams += await _in_turn(c, size.requests, 0.02)
        await s.reset(s.near)
        await until(lambda: s.usable(NEAR), 60)
        wrong = await asyncio.gather(*(c.ask(temperature=-1) for _ in range(size.requests)))
        states = {name: b["state"] for name, b in (await s.backends()).items()}
        after = await _in_turn(c, 20, 0.02)
    fates = count(all_streams)
    share = fates[Fate.WHOLE] / len(all_streams)
    ejected = [name for name, state in states.items() if state == "ejected"]
    out.say("whole", f"{fates[Fate.WHOLE]} of {len(all_streams)}")
    out.say("400s", sum(t.status == 400 for t in wrong))
    out.say("ejected by them", len(ejected))
    out.claim(share >= 0.999, f"{share:.2%} whole")
    out.claim(all(t.status == 400 for t in wrong), "a 400 was not passed on")
    out.claim(not ejected, f"ejected: {ejected}")
    out.claim(count(after)[Fate.WHOLE] == len(after), "others suffered")
    return out


@row(
    9,
    "inference is dead while /health says 200; then /health hangs while tokens come",
    "no more than 3 requests meet the dead engine in a row; 0 ejected for its probes; 0 failed",
)
async def dead_inside(size: Size) -> Outcome:
    out = Outcome()
    head = "[timeouts]\nfirst_token = 1.0\ntoken_gap = 2.0\n[probes]\ninterval = 0.5\ntimeout = 0.5\n"
    async with stage(NEAR, FAR, head=head) as s, clients(s.router.url, max_tokens=5) as c:
        await _in_turn(c, 10, 0.05)
        await s.fault(s.near, "health", how="hang", for_s=size.hold_s)
        ejections, streams = 0, []
        for _ in range(int(size.hold_s)):
            streams += await c.pour(10, 1.0)
            ejections += not (await s.backends())["us-east/a"]["usable"]
        await c.drain()
        busy = sum(t.region == NEAR for t in streams)
        await s.reset(s.near)
        await s.fault(s.near, "freeze", what="engine")
        dead = [await c.ask() for _ in range(20)]
        met = [t.headers.get("x-router-attempts", "1") != "1" for t in dead]
    fates = count(streams + dead)
    in_a_row = _longest(met)
    out.say("asked the near region while its probes hung", f"{busy} of {len(streams)}")
    out.say("ejected for it", f"{ejections} s")
    out.say("met the dead engine", f"{sum(met)} of {len(dead)}, {in_a_row} in a row")
    out.say("failed", fates[Fate.TOLD])
    out.claim(ejections == 0, "it was ejected while tokens came")
    out.claim(busy > len(streams) / 2, "it was avoided while tokens came")
    out.claim(in_a_row <= 3, f"{in_a_row} in a row met it")
    out.claim(fates[Fate.WHOLE] == len(streams) + len(dead), f"failed: {fates}")
    return out


def _longest(flags: list[bool]) -> int:
    longest = current = 0
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest


@row(13, "everything fails (500) under load, and clients try again twice", "1.2 attempts at engines for each request")
async def retry_storm(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=3) as c:
        for host in s.hosts.values():
            await s.fault(host.machines, "error_status", status=500)
        asked = 0

        async def persistent() -> None:
            nonlocal asked
            for _ in range(3):
                asked += 1
                if (await c.ask()).status == 200:
                    return
                await asyncio.sleep(0.5)

        tasks = []
        for _ in range(int(size.hold_s * 40)):
            tasks.append(asyncio.create_task(persistent()))
            await asyncio.sleep(1 / 40)
        await asyncio.gather(*tasks)
        attempts = await s.metric("router_attempts_total") / asked
    out.say("requests", asked)
    out.say("attempts each", f"{attempts:.2f}")
    out.claim(attempts <= 1.2, "retries multiplied the outage")
    return out
