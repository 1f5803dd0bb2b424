"""Routers follow each other, or start where they cannot."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.reliability.asking import Fate, clients, count
from bench.reliability.host import Host
from bench.reliability.row import Outcome, Size, row
from bench.reliability.stage import FAR, NEAR, Stage, sites_of, stage
from tests.support.takeover import Takeover

_ROOT = Path(__file__).parents[2]


@row(48, "20 upgrades one after the other under load (short: 3), the sockets handed on", "0 failed")
async def upgrades(size: Size) -> Outcome:
    out = Outcome()
    host = Host(NEAR, ("vllm",), ("llama-3.1-8b",), profile="crowd", rtt_ms=2.0)
    await asyncio.to_thread(host.start)
    try:
        with tempfile.TemporaryDirectory() as folder:
            head = '[auth]\nmode = "open"\n[timeouts]\nlead = 0\n'
            with Takeover(Path(folder), sites_of([host]), head=head, passes=True) as t:
                serving = await asyncio.to_thread(t.start)
                async with clients(f"http://{t.listen}", max_tokens=20) as c:
                    for _ in range(3 if size.short else 20):
                        pouring = asyncio.create_task(c.pour(20, 4.0))
                        following = await asyncio.to_thread(t.start)
                        t.stop(serving)
                        serving = following
                        await pouring
                    await c.drain()
                    streams = c.all
                await asyncio.to_thread(t.end)
    finally:
        await asyncio.to_thread(host.kill)
    fates = count(streams)
    out.say("failed", f"{len(streams) - fates[Fate.WHOLE]} of {len(streams)}")
    out.say("routers", len(t.routers))
    out.claim(fates[Fate.WHOLE] == len(streams), f"{fates}")
    return out


@row(
    52,
    "a second start on the same port; a full disk for the log; a snapshot that cannot be written",
    "the second ends and says why, the first serves on; the others serve",
)
async def odd_starts(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=5) as c:
        second = await asyncio.to_thread(_run, s, s.router.file)
        first = [await c.ask() for _ in range(10)]
        out.say("second start", f"exit status {second.returncode}")
        out.claim(second.returncode not in (0, -9), "the second did not end by itself")
        said = second.stderr.decode()
        out.claim(s.router.listen.rpartition(":")[2] in said and "Traceback" not in said, f"it said {said[-200:]!r}")
        out.claim(all(t.fate() is Fate.WHOLE for t in first), "the first does not serve any more")
    for name, head, full in (
        ("full disk for the log", "", True),
        ("snapshot that cannot be written", '[store]\nredis = "embedded"\nsnapshot = "/proc/meridian/keys"\n', False),
    ):
        served = await _serves(head, full=full, streams=10 if size.short else 100)
        out.say(name, served)
        out.claim(served.startswith("0 failed"), f"{name}: {served}")
    return out


def _run(s: Stage, file: Path) -> subprocess.CompletedProcess[bytes]:
    """A router on this file, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "router", str(file)],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )


_FULL = """
import os, runpy
full = os.open("/dev/full", os.O_WRONLY)
os.dup2(full, 1)
os.dup2(full, 2)
runpy.run_module("router", run_name="__main__")
"""


async def _serves(head: str, *, full: bool, streams: int) -> str:
    command = ("-c", _FULL) if full else ("-m", "router")
    try:
        async with stage(NEAR, head=head, command=command) as s, clients(s.router.url, max_tokens=5) as c:
            asked = [await c.ask() for _ in range(streams)]
            await c.drain()
    except AssertionError as exc:
        return f"did not start: {str(exc)[-200:]}"
    return f"{sum(t.fate() is not Fate.WHOLE for t in asked)} failed of {len(asked)}"
