"""A router process that watches backends and serves nobody: what it costs to know a fleet."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.growth.deciding import REGIONS
from bench.kernel import process_cpu_s, tree_pss_bytes
from bench.processes import end, free_port, read_line, stop

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tests" / "data" / "engines" / "vllm" / "metrics_under_load.txt"
READY_S = 120.0


@dataclass(frozen=True, slots=True)
class Watched:
    backends: int
    #: processor seconds for each second
    busy_ratio: float
    bytes_: int
    #: from the start of the process until it is ready
    ready_s: float


@contextlib.contextmanager
def engines() -> Iterator[str]:
    """The address of a server that plays all of them."""
    process = subprocess.Popen([sys.executable, "-m", "bench.growth.page", str(PAGE)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        yield f"127.0.0.1:{read_line(process, 30)}"
    finally:
        end(process)


def configuration(address: str, backends: int, listen: str, admin: str) -> str:
    lines = [f'[router]\nlisten = "{listen}"\nadmin = "{admin}"\nregion = "r0"\n[auth]\nmode = "open"\n']
    for region in range(REGIONS):
        lines.append(f'[[regions]]\nname = "r{region}"\n')
        lines += [
            f'[[regions.backends]]\nname = "b{n}"\nurl = "http://{address}/b{n}"\nengine = "vllm"\n'
            'models = ["m"]\ncontinues = "no"\n'
            for n in range(region, backends, REGIONS)
        ]
    return "".join(lines)


def watched(backends: int, *, seconds: float) -> Watched:
    """Its processor time over ``seconds``, once every backend has answered, and its memory after them."""
    listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with engines() as address, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "regions.toml"
        file.write_text(configuration(address, backends, listen, admin))
        began_s = time.monotonic()
        with (Path(folder) / "log").open("wb") as log:
            router = subprocess.Popen(
                [sys.executable, "-m", "router", str(file)], cwd=ROOT, stderr=log, start_new_session=True
            )
        try:
            _until_known(admin, backends, router)
            ready_s = time.monotonic() - began_s
            time.sleep(3.0)  # the first of everything is over
            before_s, since_s = process_cpu_s(router.pid), time.monotonic()
            time.sleep(seconds)
            spent_s = process_cpu_s(router.pid) - before_s
            busy_ratio = spent_s / (time.monotonic() - since_s)
            return Watched(backends, busy_ratio, tree_pss_bytes([router.pid]), ready_s)
        finally:
            stop(router)


def _until_known(admin: str, backends: int, router: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s and router.poll() is None:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://{admin}/admin/v1/backends", timeout=10) as answer:
                found = json.loads(answer.read())["data"]
            if sum(b["usable"] and b["rtt_s"] is not None for b in found) == backends:
                return
        time.sleep(0.1)
    raise TimeoutError(f"{backends} backends were not all usable after {READY_S:.0f} s")
