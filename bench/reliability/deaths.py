"""Regions and streams that die while answers are under way."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from bench.reliability.asking import MODEL, POLYGLOT, Clients, Fate, Stream, clients, count, quantile
from bench.reliability.row import Outcome, Size, row
from bench.reliability.stage import FAR, NEAR, SHAPES, THIRD, Stage, stage, until

_SHARE_WHOLE = 0.999
#: From the death of a region to the moment its router knows, and what as many requests at once cost two shared cores.
_DETECTION_S = 0.5


@row(
    1,
    "SIGKILL of a region with streams open, half of them before their first token; engines of four kinds",
    "0 lost before first token, 0 cut streams passed for whole, 99.9 % whole and byte for byte; pause p99: the "
    "predicted first token + 0.5 s",
)
async def region_killed(size: Size) -> Outcome:
    out = Outcome()
    async with (
        stage(NEAR, FAR, THIRD, engines=SHAPES, models=(MODEL, POLYGLOT)) as s,
        clients(s.router.url) as c,
    ):
        half, longer = size.streams // 2, 1 if size.short else 3  # answers last until all have begun
        begun = await _open(c, half, 100, longer)
        await until(lambda: all(t.begun or t.ended_s for t in begun), 60)
        # From now on the engines take requests and say nothing: these wait for their first token when the region dies.
        victim = Counter(t.region for t in begun).most_common(1)[0][0] or NEAR
        await s.fault(s.hosts[victim].machines, "stall_before_first_token", stall_s=60.0)
        waiting = await _open(c, size.streams - half, 100, 1)
        await asyncio.sleep(0.5)
        killed_s = time.monotonic()
        s.hosts[victim].kill()
        hit = [t for t in begun if t.region == victim and not t.ended_s]
        unbegun = [t for t in waiting if not t.begun]
        await c.drain()
        predicted = await _predicted_s(s)
    fates = count(begun + waiting)
    lost = sum(t.fate() is not Fate.WHOLE for t in unbegun)
    whole = fates[Fate.WHOLE] / size.streams
    # Of the plain text: a character of several tokens makes pauses of its own.
    pauses = [t.next_after_s(killed_s) for t in hit if t.fate() is Fate.WHOLE and t.stop is None]
    out.say("streams cut", len(hit))
    out.say("before first token", len(unbegun))
    out.say("lost of these", lost)
    out.say("whole", f"{fates[Fate.WHOLE]} of {size.streams}")
    out.say("passed for whole", fates[Fate.WRONG] + fates[Fate.CUT_SILENTLY])
    out.say("pause p50", f"{quantile(pauses, 0.5):.2f} s")
    out.say("pause p99", f"{quantile(pauses, 0.99):.2f} s")
    out.say("first token elsewhere as predicted, p99", f"{quantile(predicted, 0.99):.2f} s")
    out.claim(len(hit) > half * 0.25, f"the region that died had only {len(hit)} of {half} streams")
    out.claim(lost == 0, f"{lost} lost before their first token")
    out.claim(fates[Fate.WRONG] + fates[Fate.CUT_SILENTLY] == 0, "a cut stream passed for whole, or was told wrong")
    out.claim(whole >= _SHARE_WHOLE, f"{whole:.2%} whole and byte for byte as undisturbed")
    out.in_time(quantile(pauses, 0.99) <= quantile(predicted, 0.99) + _DETECTION_S, "pauses are longer")
    return out


async def _predicted_s(s: Stage) -> list[float]:
    """Of the attempts that went on with another's answer."""
    out = []
    for summary in (await s.ask("/admin/v1/requests?limit=1000"))["data"]:  # type: ignore[attr-defined]
        if summary["attempts"] > 1:
            record = await s.ask(f"/admin/v1/requests/{summary['request_id']}")
            legs = [a for a in record["attempts"] if a["kind"] == "continue"]  # type: ignore[attr-defined]
            out += [leg["predicted_ttft_s"] for leg in legs if leg["predicted_ttft_s"] is not None]
    return out


async def _open(c: Clients, number: int, per_s: float, longer: int) -> list[Stream]:
    """Every fourth has characters of several bytes and ends at a stop string."""
    streams = []
    for i in range(number):
        if i % 4 == 3:
            streams.append(c.open(model=POLYGLOT, stops_after=40 * longer))
        else:
            streams.append(c.open(max_tokens=60 * longer))
        await asyncio.sleep(1 / per_s)
    return streams


_ENDS = ("fin", "rst", "close_delimited", "clean", "truncated", "error_done")


@row(
    2,
    "streams that end in the middle: FIN, RST, close-delimited, clean without [DONE], half an event, error and [DONE]; "
    "a garbage line",
    "0 misreported; the garbage line passes; 99.9 % whole and byte for byte",
)
async def cut_streams(size: Size) -> Outcome:
    out = Outcome()
    number = size.requests
    async with stage(NEAR, FAR, engines=("vllm", "sglang")) as s, clients(s.router.url, max_tokens=25) as c:
        all_streams: list[Stream] = []
        for i, how in enumerate(("garbage", *_ENDS)):
            await s.reset(s.near)
            faulty = s.near[i % 2 :][:1]  # one of the two: a request of which two backends die is not tried again
            if how == "garbage":
                await s.fault(faulty, "garbage_line", tokens=5)
            else:
                await s.fault(faulty, "cut_after_tokens", tokens=5, how=how)
            streams = [c.open() for _ in range(number)]
            await c.drain()
            fates = count(streams)
            wrong = fates[Fate.WRONG] + fates[Fate.CUT_SILENTLY]
            out.claim(wrong == 0, f"{how}: {wrong} of {number} misreported")
            if how == "garbage":
                met = sum(b"{this is not json" in t.body for t in streams)
                out.say("garbage passed", f"{met} of {number}")
            all_streams += streams
    fates = count(all_streams)
    out.say("misreported", fates[Fate.WRONG] + fates[Fate.CUT_SILENTLY])
    out.say("whole", f"{fates[Fate.WHOLE]} of {len(all_streams)}")
    out.say("told", dict(Counter(f"{t.status} {t.error}" for t in all_streams if t.fate() is Fate.TOLD)) or 0)
    share = fates[Fate.WHOLE] / len(all_streams)
    out.claim(share >= _SHARE_WHOLE, f"{share:.2%} whole")
    return out
