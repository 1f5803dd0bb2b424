"""python -m bench.routing.live: the real sglang-router and vllm-router beside this one, in real time.

Each gateway stands in turn in front of six fresh simulated engines in three regions, with the round trips of the real
distances, and gets the same conversations at the same moments. The load is a share of what the simulated world of the
same engines carries. Only loopback is used; a run takes ``--seconds`` for each gateway, and some to start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, nan
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench import environments, processes
from bench.peers import PEERS, Gateway, Site
from bench.peers.base import MODEL
from bench.routing.capacity import capacity_per_s
from bench.routing.cases import Workload, made
from sim.fleet import SimFleet
from sim.traces import Arrival
from sim.workloads import Chats

GATEWAYS = ("meridian-memory", "sglang-router-cache", "vllm-router-cache", "sglang-router", "vllm-router")
PROFILE = "l4-llama-3.1-8b"
HOME = "us-east"
#: a slow GPU, prompts of some thousand tokens, short answers: work for engines, few tokens to stream for this machine
TALKS = Chats(instructions=12, instruction_tokens=2048, turn_tokens=200.0, answer_tokens=40.0, turns=5.0, think_s=8.0)
TIMEOUT_S = 60.0
START_S = 1.5  # probes and scrapes run before the first request
_WORDS = ("region", "token", "harbor", "window", "answer", "engine", "bridge", "letter", "garden", "island", "story")


@dataclass(slots=True)
class Answer:
    """What a client saw. ``ttft_s`` None: it failed."""

    ttft_s: float | None = None
    e2e_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0


def workload(seconds: float, requests_per_s: float, seed: int) -> Workload:
    return Workload("live", made("live", TALKS, round(seconds * requests_per_s), seed), PROFILE, True)


def prompt_of(arrival: Arrival, block_tokens: int) -> str:
    """Text of about the right length, in which equal blocks are equal text. One word is one token."""
    words: list[str] = []
    for block in arrival.blocks:
        words += random.Random(block).choices(_WORDS, k=block_tokens)
    tail = arrival.prompt_tokens - len(words)
    words += random.Random(f"{arrival.session} {arrival.at_s}").choices(_WORDS, k=max(1, tail))
    return " ".join(words)


async def ask(session: aiohttp.ClientSession, gateway: Gateway, body: bytes, at_s: float) -> Answer:
    """One streamed completion, sent at ``at_s`` of the event loop's clock."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(at_s - loop.time())
    began_s, answer = loop.time(), Answer()
    headers = {"content-type": "application/json"} | dict(line.split(": ", 1) for line in gateway.headers)
    try:
        url = f"http://127.0.0.1:{gateway.port}/v1/completions"
        async with session.post(url, data=body, headers=headers) as response:
            if response.status != 200:
                return answer
            first_s: float | None = None
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                if first_s is None:
                    first_s = loop.time() - began_s
                if b'"usage":{' in line:
                    usage = orjson.loads(line[6:])["usage"]
                    answer.prompt_tokens = usage["prompt_tokens"]
                    answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            answer.ttft_s = first_s
    except (TimeoutError, aiohttp.ClientError):
        return Answer()
    answer.e2e_s = loop.time() - began_s
    return answer


async def play(gateway: Gateway, arrivals: Sequence[Arrival], bodies: Sequence[bytes]) -> list[Answer]:
    """All of them at their times."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, read_bufsize=1 << 20) as session:
        start_s = asyncio.get_running_loop().time() + START_S
        asks = [ask(session, gateway, body, start_s + a.at_s) for a, body in zip(arrivals, bodies, strict=True)]
        return await asyncio.gather(*asks)


def run(name: str, arrivals: Sequence[Arrival], bodies: Sequence[bytes], folder: Path) -> dict[str, Any]:
    """One gateway in front of engines of its own."""
    cpus = frozenset(os.sched_getaffinity(0))
    with SimFleet(model=MODEL, seen_from=HOME, profile=PROFILE) as fleet:
        # Dealt out region by region, as the peers' configurations do.
        order = sorted(fleet.backends, key=lambda b: (b.name.rpartition("/")[2], b.region))
        site = Site(processes.free_port(), tuple(b.port for b in order), folder / name, cpus, cpus)
        gateway = PEERS[name].start(site)
        try:
            answers = asyncio.run(play(gateway, arrivals, bodies))
        finally:
            gateway.stop()
    good = [a for a in answers if a.ttft_s is not None]
    ttft = sorted(a.ttft_s for a in good if a.ttft_s is not None)
    e2e = sorted(a.e2e_s for a in good)
    row: dict[str, Any] = {"gateway": name, "failed": len(answers) - len(good)}
    for q in (50, 90, 99):
        row[f"ttft_s_p{q}"] = _quantile(ttft, q)
    for q in (50, 99):
        row[f"e2e_s_p{q}"] = _quantile(e2e, q)
    row["prefix_hit_ratio"] = sum(a.cached_tokens for a in good) / max(1, sum(a.prompt_tokens for a in good))
    return row


def _quantile(ordered: Sequence[float], percent: int) -> float:
    return ordered[max(0, ceil(percent / 100 * len(ordered)) - 1)] if ordered else nan


def text(rows: Sequence[dict[str, Any]]) -> str:
    names = [name for name in rows[0] if name != "gateway"]
    lines = [f"{'gateway':<22}" + "".join(f"{name:>18}" for name in names)]
    for row in rows:
        cells = (f"{row[name]:18.3f}" if isinstance(row[name], float) else f"{row[name]:18}" for name in names)
        lines.append(f"{row['gateway']:<22}" + "".join(cells))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.routing.live", description=__doc__)
    parser.add_argument("--gateways", default=",".join(GATEWAYS), help="with commas between them")
    parser.add_argument("--seconds", type=float, default=45.0, help="of traffic for each gateway")
    parser.add_argument("--load", type=float, default=0.8, help="share of what the simulated world carries")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=environments.OUT / "live.json")
    options = parser.parse_args(arguments)
    names = options.gateways.split(",")
    for name in names:
        print(f"{name} {PEERS[name].install()}", flush=True)
    requests_per_s = options.load * capacity_per_s(workload(60.0, 20.0, options.seed))
    trace = workload(options.seconds, requests_per_s, options.seed).at(requests_per_s)
    ask_for = {"model": MODEL, "stream": True, "temperature": 0, "stream_options": {"include_usage": True}}
    bodies = [
        orjson.dumps(ask_for | {"prompt": prompt_of(a, trace.block_tokens), "max_tokens": a.output_tokens})
        for a in trace.arrivals
    ]
    print(f"{len(bodies)} requests, {requests_per_s:.1f} per second, seen from {HOME}", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            began_s = time.monotonic()
            rows.append(run(name, trace.arrivals, bodies, Path(folder)))
            print(f"{name}: {time.monotonic() - began_s:.0f} s", flush=True)
    print(f"\n{text(rows)}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"seed": options.seed, "load": options.load, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
