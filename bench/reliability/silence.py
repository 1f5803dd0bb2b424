"""Backends that say nothing, or little."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import pairwise

from bench.reliability.asking import Fate, clients, count, quantile
from bench.reliability.row import Outcome, Size, row
from bench.reliability.stage import FAR, NEAR, Stage, stage
from tests.support.blackhole import blackhole

_CONNECT_S = 0.5
_FIRST_TOKEN_S = 1.0
_GAP_S = 1.0
#: What a busy machine adds to a timer of the router.
_LATE_S = 0.1
_TIMEOUTS = f"[timeouts]\nconnect = {_CONNECT_S}\nfirst_token = {_FIRST_TOKEN_S}\ntoken_gap = {_GAP_S}\n"


@row(
    3,
    "a region whose connections vanish (SYN blackhole)",
    "first answers late by the connect timeout (0.5 s) + 100 ms at most, 0 failed; then nobody",
)
async def syn_blackhole(size: Size) -> Outcome:
    async def vanish(s: Stage, stack: ExitStack) -> None:
        (machine,) = s.near
        await asyncio.to_thread(s.hosts[NEAR].kill)
        stack.enter_context(blackhole(machine.port))

    return await _swallowed(size, vanish, _CONNECT_S)


@row(
    4,
    "a backend that accepts connections and never answers (SIGSTOP)",
    "first answers late by the first-token limit (1 s) + 100 ms at most, 0 failed; then nobody",
)
async def never_answers(size: Size) -> Outcome:
    async def freeze(s: Stage, _: ExitStack) -> None:
        s.hosts[NEAR].freeze()

    return await _swallowed(size, freeze, _FIRST_TOKEN_S)


async def _swallowed(size: Size, begin: Callable[[Stage, ExitStack], Awaitable[None]], limit_s: float) -> Outcome:
    """The near backend swallows what it is sent. How late are those answers, and those after them?"""
    out = Outcome()
    with ExitStack() as stack:
        async with stage(NEAR, FAR, head=_TIMEOUTS) as s, clients(s.router.url, max_tokens=3) as c:
            usual = await c.pour(20, 1.0)
            await c.drain()
            base_s = quantile((t.first_token_s or 99.0 for t in usual), 0.5) + 0.08  # and once to the far region
            await begin(s, stack)
            streams = await c.pour(20, size.requests / 20)
            await c.drain()
            s.hosts[NEAR].thaw()
    late = [t.first_token_s or 99.0 for t in streams if t.headers.get("x-router-attempts", "1") != "1"]
    others = [t.first_token_s or 99.0 for t in streams if t.headers.get("x-router-attempts", "1") == "1"]
    added_s = max(late, default=0.0) - base_s
    failed = sum(t.fate() is not Fate.WHOLE for t in streams)
    out.say("swallowed", f"{len(late)} of {len(streams)}")
    out.say("latest of these", f"+{added_s:.2f} s")
    out.say("others p99", f"+{max(0.0, quantile(others, 0.99) - base_s):.2f} s")
    out.say("failed", failed)
    out.claim(bool(late), "nothing was swallowed")
    out.claim(failed == 0, f"{failed} failed")
    out.claim(len(late) <= 20 * (limit_s + 1), f"{len(late)} were swallowed")
    out.in_time(added_s <= limit_s + _LATE_S, f"{added_s:.2f} s late")
    return out


@row(
    6,
    "a stream that falls silent after 5 tokens",
    "it goes on after the gap limit (1 s) + 100 ms and a first token elsewhere; 0 end with an error or pass for whole",
)
async def stalls(size: Size) -> Outcome:
    out = Outcome()
    async with stage(NEAR, FAR, head=_TIMEOUTS) as s, clients(s.router.url, max_tokens=20) as c:
        await s.fault(s.near, "stall_after_tokens", tokens=5, stall_s=60.0)
        streams = []
        for _ in range(size.requests // 2):
            streams.append(c.open())
            await asyncio.sleep(0.02)
        await c.drain()
    fates = count(streams)
    stalled = [t for t in streams if t.region == NEAR]
    pauses = [t.longest_gap_s for t in stalled if t.fate() is Fate.WHOLE]
    errors = [t.ended_s - t.pieces[-2][0] for t in stalled if t.fate() is Fate.TOLD and len(t.pieces) > 1]
    out.say("stalled", len(stalled))
    out.say("whole", fates[Fate.WHOLE])
    out.say("told", fates[Fate.TOLD])
    out.say("pause p50", f"{quantile(pauses, 0.5):.2f} s")
    out.say("pause p99", f"{quantile(pauses, 0.99):.2f} s")
    if errors:
        out.say("error after p99", f"{quantile(errors, 0.99):.2f} s")
    out.claim(bool(stalled), "nothing stalled")
    out.claim(fates[Fate.WRONG] + fates[Fate.CUT_SILENTLY] == 0, "misreported")
    out.claim(fates[Fate.TOLD] == 0, f"{fates[Fate.TOLD]} were not continued")
    elsewhere_s = 0.04 * 2 + 0.1 * 2  # connection and request, and at most two iterations of the engine
    out.in_time(quantile(pauses, 0.99) <= _GAP_S + _LATE_S + elsewhere_s, "it took longer")
    return out


@row(7, "a slow drip: a token every 20 s (short: 3 s), which is legal", "0 cut; `: ping` in every 15 s of silence")
async def drip(size: Size) -> Outcome:
    out = Outcome()
    gap_s, tokens = (3.0, 3) if size.short else (20.0, 4)
    async with stage(NEAR, FAR) as s, clients(s.router.url, max_tokens=tokens) as c:
        for machines in (s.hosts[NEAR].machines, s.hosts[FAR].machines):
            await s.fault(machines, "drip", gap_s=gap_s)
        streams = [c.open() for _ in range(20)]
        await c.drain()
    fates = count(streams)
    silences = [_silence_s(t.pieces) for t in streams]
    out.say("whole", f"{fates[Fate.WHOLE]} of {len(streams)}")
    out.say("longest silence", f"{max(silences):.1f} s")
    out.claim(fates[Fate.WHOLE] == len(streams), "some were cut")
    out.in_time(max(silences) <= 15.5, "a silence was not filled")
    return out


def _silence_s(pieces: list[tuple[float, bytes]]) -> float:
    times = [at_s for at_s, _ in pieces]
    return max((b - a for a, b in pairwise(times)), default=0.0)
