"""The router itself stops, dies, or is told nonsense."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from bench.reliability.asking import Fate, clients, count
from bench.reliability.row import Outcome, Size, row
from bench.reliability.stage import FAR, NEAR, Stage, stage, until


@row(46, "SIGTERM with streams open that have 1 to 10 s to go (short: 4 s)", "0 dropped; exit with the last stream")
async def sigterm(size: Size) -> Outcome:
    out = Outcome()
    longest = 40 if size.short else 100
    async with stage(NEAR, FAR, head="[timeouts]\nlead = 1\n") as s, clients(s.router.url) as c:
        streams = [c.open(max_tokens=random.randint(10, longest)) for _ in range(size.streams)]
        await until(lambda: all(t.begun or t.ended_s for t in streams), 60)
        s.router.terminate()
        await asyncio.sleep(0.3)
        during = [c.open(max_tokens=3) for _ in range(20)]  # before the lead time is over it still listens
        exit_s = await until(lambda: s.router.process.poll() is not None, 120) + 0.3
        await c.drain()
        last_s = max(t.ended_s for t in streams) - max(t.began_s for t in during)
        code = s.router.process.poll()
    fates = count(streams)
    out.say("whole", f"{fates[Fate.WHOLE]} of {len(streams)}")
    out.say("refused in the lead time", sum(t.fate() is not Fate.WHOLE for t in during))
    out.say("exit after the last stream", f"{exit_s - 0.3 - last_s:.2f} s")
    out.claim(fates[Fate.WHOLE] == len(streams), f"dropped: {fates}")
    out.claim(all(t.fate() is Fate.WHOLE for t in during), "new requests were refused before the lead time was over")
    out.in_time(exit_s - 0.3 - last_s <= 2.0, "it stayed on")
    out.claim(code == 0, f"exit status {code}")
    return out


@row(47, "the drain deadline passes with streams open", "100 % end with an error event, 0 cut or passed for whole")
async def drain_deadline(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR, head="[timeouts]\nlead = 0\ndrain = 2\n") as s, clients(s.router.url) as c:
        streams = [c.open(max_tokens=400) for _ in range(size.streams // 2)]
        await until(lambda: all(t.begun or t.ended_s for t in streams), 60)
        s.router.terminate()
        exit_s = await until(lambda: s.router.process.poll() is not None, 60)
        await c.drain()
    told = sum(t.error is not None and not t.done for t in streams)
    out.say("ended with an error event", f"{told} of {len(streams)}")
    out.say("exit after", f"{exit_s:.1f} s")
    out.claim(told == len(streams), "some were not told")
    return out


@row(49, "SIGKILL of a worker, of two, under load", "0 failed besides its own; 0 places leak")
async def worker_dies(size: Size) -> Outcome:
    out = Outcome()
    async with (
        stage(NEAR, FAR, head='workers = 2\n[store]\nredis = "embedded"\n') as s,
        clients(s.router.url, max_tokens=10) as c,
    ):
        streams = await c.pour(20, 2.0)
        victim = _workers(s)[0]
        os.kill(victim, signal.SIGKILL)
        killed_s = time.monotonic()
        pouring = asyncio.create_task(c.pour(20, 3.0))
        replaced_s = await until(lambda: victim not in (there := _workers(s)) and len(there) == 2, 30)
        streams += await pouring
        await c.drain()
        leak = (await s.ask("/admin/v1/status"))["traffic"]
    own = [t for t in streams if t.began_s < killed_s < t.ended_s and t.fate() is not Fate.WHOLE]
    others = [t for t in streams if t not in own and t.fate() is not Fate.WHOLE]
    out.say("streams of the worker", len(own))
    out.say("failed besides", len(others))
    out.say("in flight at the end", leak["inflight"])  # type: ignore[index]
    out.say("replaced after", f"{replaced_s:.1f} s")
    out.claim(not others, f"{len(others)} others failed: {[(t.status, t.broken) for t in others][:3]}")
    out.claim(leak["inflight"] == 0, "places leaked")  # type: ignore[index]
    return out


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _workers(s: Stage) -> list[int]:
    """The children that are workers: the store is one, too."""
    found = []
    for pid in _children(s.router.process.pid):
        with suppress(OSError):
            if b"router" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@row(
    50,
    "100 reloads by SIGHUP under load (short: 20): a region comes and goes, weights and plans change",
    "0 failed; 1 s to apply",
)
async def reloads(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=10) as c:
        pouring = asyncio.create_task(c.pour(20, 60.0))
        sites, times, number = list(s.router.sites), [], 20 if size.short else 100
        rss = [_rss_mb(s)]
        for i in range(number):
            s.router.sites = sites if i % 2 else sites[:1]
            s.router.head += "" if i else "\n[plans.new]\nrequests_per_minute = 60\n"
            generation = await _generation(s)
            s.router.write_config()
            began_s = time.monotonic()
            s.router.process.send_signal(signal.SIGHUP)
            await until(lambda g=generation: _is_after(s, g), 10)  # type: ignore[misc]
            times.append(time.monotonic() - began_s)
            await asyncio.sleep(0.15)
            if i == number // 2:
                rss.append(_rss_mb(s))
        rss.append(_rss_mb(s))
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
        streams = c.all
        await c.drain()
    fates = count(streams)
    out.say("failed", f"{len(streams) - fates[Fate.WHOLE]} of {len(streams)}")
    out.say("longest to apply", f"{max(times):.2f} s")
    out.say("MB at the start, middle, end", " ".join(f"{mb:.0f}" for mb in rss))
    out.claim(fates[Fate.WHOLE] == len(streams), f"{fates}")
    out.in_time(max(times) <= 1.0, "a reload took longer")
    out.claim(rss[2] - rss[1] <= 3.0, "it grows with each reload")
    return out


def _rss_mb(s: Stage) -> float:
    pages = int(Path(f"/proc/{s.router.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def _generation(s: Stage) -> int:
    return int((await s.ask("/admin/v1/config"))["generation"])  # type: ignore[call-overload]


async def _is_after(s: Stage, generation: int) -> bool:
    return await _generation(s) > generation


def _broken_files(good: str) -> list[str]:
    """Fifty ways to get it wrong."""
    lines = good.splitlines()
    out = ["", "{", "[router", good.replace('name = "test"', "name = "), good[: len(good) // 2] + '"', good + good]
    out += [good + f"\n[{section}]\n" for section in ("rooter", "timeout", "plan", "regionz", "limit")]
    for key, value in (
        ("connect", '"fast"'), ("connect", "-1"), ("first_token", "true"), ("token_gap", "1e9"), ("drain", "[]"),
        ("lead", "{}"), ("answer", '""'), ("conect", "1"), ("connection_age", "0"), ("name_age", "0.001"),
    ):  # fmt: skip
        out.append(f"{good}\n[timeouts]\n{key} = {value}\n")
    for key, value in (("body_bytes", "1"), ("headers", "1.5"), ("queue", "-1"), ("connections", '"many"'), ("x", "1")):
        out.append(f"{good}\n[limits]\n{key} = {value}\n")
    for wrong in ('engine = "vlm"', "engine = 1", 'url = "ftp://h"', 'url = "http://"', "url = 7", 'urls = "http://h"'):
        out.append(f'{good}\n[[regions]]\nname = "new"\n[[regions.backends]]\nname = "a"\n{wrong}\n')
    out += [f"{good}\n[[regions]]\nname = {name}\n" for name in ('"us-east"', '""', "3", '"a/b"', '"ü ü"')]
    out += [good.replace(f'"{NEAR}"', f'"{name}"', 1) for name in ("mars", "")]
    out += [f"{good}\n[plans.p]\n{line}\n" for line in ("requests_per_minute = -1", 'residency = "eu"', "rpm = 1")]
    out += ["\n".join(line for line in lines if not line.startswith(start)) for start in ("url", "[[regions")]
    out += [good.replace('mode = "open"', f"mode = {mode}") for mode in ('"opn"', "1", '""')]
    out += [f"{good}\n[auth]\n", f"{good}\n[probes]\ninterval = 0\n"]
    out += [good.replace("listen = ", "listen = 1 # "), good.replace('listen = "127.0.0.1', 'listen = "127.0.0.1:x')]
    return out


@row(
    51,
    "50 broken configurations by SIGHUP under load",
    "all refused, each with its line; the old one in force; 0 failed",
)
async def broken_configurations(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=10) as c:
        pouring = asyncio.create_task(c.pour(20, 170.0))
        good = s.router.file.read_text()
        files = [text for text in _broken_files(good) if text != good]
        before = (await s.ask("/admin/v1/config"))["config"]
        accepted, silent, unplaced = [], [], []
        for number, text in enumerate(files):
            generation = await _generation(s)
            s.router.file.write_text(text)
            refused_s = await _refused_s(s)
            s.router.process.send_signal(signal.SIGHUP)
            try:
                await until(lambda r=refused_s, g=generation: _decided(s, r, g), 10)  # type: ignore[misc]
            except TimeoutError:
                silent.append(number)
            config = await s.ask("/admin/v1/config")
            if config["generation"] != generation:
                accepted.append(text[-60:])
            elif not all("regions.toml:" in problem for problem in config["refused"]["problems"]):  # type: ignore[index]
                unplaced.append(config["refused"]["problems"])  # type: ignore[index]
        after = (await s.ask("/admin/v1/config"))["config"]
        s.router.file.unlink()
        s.router.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.5)
        alive = s.router.process.poll() is None
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
        await c.drain()
        streams = c.all
    fates = count(streams)
    out.say("refused", f"{len(files) - len(accepted)} of {len(files)}")
    out.say("failed", f"{len(streams) - fates[Fate.WHOLE]} of {len(streams)}")
    out.claim(not accepted, f"accepted: {accepted[:3]}")
    out.say("without file and line", len(unplaced))
    out.claim(len(unplaced) <= 1, f"without a line: {unplaced[:2]}")  # an empty file has none
    out.claim(not silent, f"no word of refusal for {silent}")
    out.claim(before == after, "another configuration is in force")
    out.claim(alive, "the router died")
    out.claim(fates[Fate.WHOLE] == len(streams), f"{fates}")
    return out


async def _refused_s(s: Stage) -> float:
    refused = (await s.ask("/admin/v1/config"))["refused"]
    return float(refused["at_s"]) if isinstance(refused, dict) else 0.0


async def _decided(s: Stage, refused_s: float, generation: int) -> bool:
    """Has it refused since then, or accepted?"""
    config = await s.ask("/admin/v1/config")
    refused = config["refused"]
    return config["generation"] != generation or (isinstance(refused, dict) and refused["at_s"] > refused_s)
