"""Metrics, distances and addresses change, or engines are asked for more than they can give."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.reliability.asking import Fate, Stream, clients, count, quantile
from bench.reliability.row import Outcome, Size, row
from bench.reliability.stage import FAR, NEAR, Stage, stage, until
from sim.distance import Distance

#: The last two keep the process of the engines busy.
_HOWS = ("missing", "stale", "garbage", "renamed", "slow", "huge", "gzip_bomb")


def _failed(streams: list[Stream]) -> str:
    fates = count(streams)
    return f"{len(streams) - fates[Fate.WHOLE]} of {len(streams)}"


def _rss_mb(s: Stage) -> float:
    pages = int(Path(f"/proc/{s.router.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@row(
    10,
    "the metrics page of one engine of three: missing, standing still, garbage, renamed, 50 MB, a gzip bomb, 10 s late",
    "shares of the three, max/mean 1.25 at most; 16 MB more at most",
)
async def metrics_pages(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, engines=("vllm",) * 3) as s, clients(s.router.url, max_tokens=10) as c:
        await c.pour(20, 2.0)
        before_mb, shares = _rss_mb(s), {}
        for how in _HOWS[: 5 if size.short else None]:
            await s.fault(s.near[:1], "metrics", how=how)
            await asyncio.sleep(1.0)
            streams = await c.pour(30, 2.0 if size.short else 10.0)
            await c.drain()
            shares[how] = Counter(t.headers.get("x-router-backend", "none").rpartition("/")[2] for t in streams)
            await s.reset(s.near[:1])
        grown_mb = _rss_mb(s) - before_mb
        streams = c.all
    out.say("failed", _failed(streams))
    skews = {how: max(found.values()) * 3 / found.total() for how, found in shares.items()}
    out.say("skew", " ".join(f"{how} {skew:.2f}" for how, skew in skews.items()))
    out.say("of the slow", dict(shares["slow"]))
    out.say("MB more", f"{grown_mb:.0f}")
    out.claim(all(t.fate() is Fate.WHOLE for t in streams), "requests failed")
    out.claim(max(skews.values()) <= 1.25, "an engine that cannot be seen gets more or less than the others")
    out.claim(grown_mb <= 16, "a page is kept in memory")
    return out


@row(
    12,
    "a region comes back under load after 30 s (short: 4 s)",
    "1 % failed at most; its share grows, second by second",
)
async def comes_back(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=10) as c:
        await c.pour(40, 2.0)
        await asyncio.to_thread(s.hosts[NEAR].kill)
        await c.pour(40, size.hold_s)
        await asyncio.to_thread(s.hosts[NEAR].start)
        await until(lambda: s.usable(NEAR), 60)
        spans = [await c.pour(20 if size.short else 40, 3.5) for _ in range(10)]
        await c.drain()
        streams = c.all
    shares = [sum(t.region == NEAR for t in asked) / len(asked) for asked in spans]
    out.say("failed", _failed(streams))
    out.say("share, each 3.5 s", " ".join(f"{share:.0%}" for share in shares))
    lost = sum(t.fate() is not Fate.WHOLE for asked in spans for t in asked)
    out.claim(lost <= 0.01 * sum(map(len, spans)), f"{lost} failed after it came back")
    out.claim(shares[0] <= 0.8 * max(shares), "all of its traffic came at once")
    out.claim(shares[-1] >= 0.5, "it does not get its traffic back")
    return out


@row(
    14,
    "overload: one, two and three times what the engines can do",
    "whole answers a second at three times: 0.95 of the best; a first token within 2 s of what the queue takes",
)
async def overload(size: Size) -> Outcome:
    out = Outcome()
    places, queue = 16, 64
    per_s = 2 * places  # two engines, and an answer takes a second
    wait_s = queue / per_s
    goodput, waits = [], []
    async with (
        stage(NEAR, FAR, head=f"[limits]\nqueue = {queue}\n", extra=f"max_inflight = {places}") as s,
        clients(s.router.url, max_tokens=10) as c,
    ):
        await c.pour(per_s, 2.0)
        for times in (1, 2, 3):
            for_s = 6.0 if size.short else 20.0
            began_s = time.monotonic()
            streams = await c.pour(times * per_s, for_s)
            await c.drain()
            inside = [t for t in streams if t.fate() is Fate.WHOLE and t.ended_s - began_s > for_s / 3]
            goodput.append(sum(t.ended_s - began_s <= for_s for t in inside) / (for_s * 2 / 3))
            waits.append(quantile((t.first_token_s or 0.0 for t in inside), 0.99))
            wrong = [t for t in streams if t.fate() not in (Fate.WHOLE, Fate.TOLD)]
            out.claim(not wrong, f"{len(wrong)} misreported")
    out.say("whole answers a second", " ".join(f"{rate:.1f}" for rate in goodput))
    out.say("first token, p99", " ".join(f"{wait:.2f} s" for wait in waits))
    out.claim(goodput[-1] >= 0.95 * max(goodput), "it does less when more is asked of it")
    out.in_time(max(waits) <= wait_s + 2.0, "those that are served wait too long")
    return out


@row(
    16,
    "two regions, 10 and 150 ms away with jitter, change places, after 15 s of traffic",
    "3 s until nine of ten go to the nearer; 0 go back",
)
async def places_change(size: Size) -> Outcome:
    out = Outcome()
    near_s, far_s = 0.010, 0.150
    async with (
        stage(NEAR, FAR, rtt_s={NEAR: near_s, FAR: far_s}) as s,
        clients(s.router.url, max_tokens=3) as c,
    ):
        before = await c.pour(20, 15.0)  # until it has learned how long answers are
        s.lines[NEAR].rtt_s, s.lines[FAR].rtt_s = far_s, near_s
        changed_s = time.monotonic()
        after = await c.pour(20, 8.0 if size.short else 30.0)
        await c.drain()
    places = [(t.began_s - changed_s, t.region) for t in after]
    moved_s = next((at for n, (at, _) in enumerate(places) if _mostly(places[n : n + 20], FAR)), None)
    settled = [region for at, region in places if moved_s is not None and at >= moved_s]
    out.say("failed", _failed(before + after))
    out.say("in the nearer before", f"{sum(t.region == NEAR for t in before[20:]) / len(before[20:]):.0%}")
    out.say("moved after", "never" if moved_s is None else f"{moved_s:.1f} s")
    out.say("went back", f"{settled.count(NEAR)} of {len(settled)}")
    out.claim(moved_s is not None, "the traffic stayed where it was")
    out.in_time((moved_s or 0.0) <= 3.0, "it took longer")
    out.claim(settled.count(NEAR) <= 0.1 * len(settled), "it swings between them")
    return out


def _mostly(places: list[tuple[float, str | None]], region: str) -> bool:
    return sum(found == region for _, found in places) >= 0.9 * len(places)


#: A router whose resolver reads one name from a file.
_NAMES = """
import os, runpy, socket
real = socket.getaddrinfo
def look_up(host, *args, **options):
    if host in ("engine.test", b"engine.test"):
        host = open(os.environ["ENGINE_ADDRESS"]).read().strip()
    return real(host, *args, **options)
socket.getaddrinfo = look_up
runpy.run_module("router", run_name="__main__")
"""


@row(
    18, "the address behind an engine's name changes under load, then the old one is gone", "0 failed; `name_age` + 5 s"
)
async def address_changes(size: Size) -> Outcome:
    out = Outcome()
    name_age_s = 1.0
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "address"
        address.write_text("127.0.0.2")
        async with (
            stage(
                NEAR,
                head=f"[timeouts]\nname_age = {name_age_s}\n",
                rtt_s={NEAR: 0.0},
                command=("-c", _NAMES),
                env={"ENGINE_ADDRESS": str(address)},
                wait=None,
            ) as s,
            Distance(s.near[0].port, 0.0, host="127.0.0.2") as old,
            Distance(s.near[0].port, 0.0, host="127.0.0.3", at=old.port) as new,
            clients(s.router.url, max_tokens=10) as c,
        ):
            s.router.sites[0].url = f"http://engine.test:{old.port}"
            s.router.write_config()
            await s.ask("/admin/v1/config/reload", {}, "POST")
            await until(lambda: s.usable(NEAR), 30)
            streams = await c.pour(20, 2.0)
            address.write_text("127.0.0.3")
            changed_s = time.monotonic()
            pouring = asyncio.create_task(c.pour(20, 6.0 if size.short else 20.0))
            await until(lambda: new.connections > 0, 15)
            moved_s = time.monotonic() - changed_s
            await asyncio.sleep(name_age_s + 1.5)  # streams that were open end
            seen = old.connections
            await old.__aexit__()
            streams += await pouring
            await c.drain()
            later = old.connections - seen
    out.say("failed", _failed(streams))
    out.say("first connection to the new address after", f"{moved_s:.1f} s")
    out.say("connections to the old one afterwards", later)
    out.claim(all(t.fate() is Fate.WHOLE for t in streams), "requests failed")
    out.in_time(moved_s <= name_age_s + 5.0, "it took longer")
    return out
