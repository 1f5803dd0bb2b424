"""One slice: one load on one gateway, with what the kernel counted meanwhile."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import environments, kernel, processes
from bench.scenarios import crowd as crowd_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers import Gateway
    from bench.scenarios import Scenario

    Meter = Callable[[], None]

OPEN_TIMEOUT_S = 30.0
SETTLE_S = 1.0
CALM_STEP_S, CALM_MAX_S = 0.1, 20.0
CALM_CORES = 0.1
LEAVE_S = 12.0  # longer than the longest interval: by then every stream had a token to write


@dataclass(slots=True)
class Slice:
    """What one slice showed. Seconds, bytes, counts; histograms are [nanoseconds, count] pairs."""

    peer: str
    scenario: str
    window_s: float = 0.0
    cpu_s: float = 0.0  # the gateway's tree, with its stores
    store_cpu_s: float = 0.0
    others_cores: float = 0.0  # cores that neither the gateway nor the bench used but somebody did
    bench_use: float = 0.0  # share of the load's cores that load and backend used: near 1 they were the limit
    requests: int = 0
    chunks: float = 0.0
    reads: int = 0
    rewritten: int = 0
    errors: int = 0
    error: str = ""
    before_pss_bytes: int = 0
    open_pss_bytes: int = 0
    streams_open: int = 0
    calm_s: float = 0.0  # how long the gateway was busy after the load had gone
    left_open: int = 0  # streams the backends still served LEAVE_S after every client had left
    latency_ns: list[list[int]] = field(default_factory=list)
    first_ns: list[list[int]] = field(default_factory=list)
    gap_ns: list[list[int]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Bench:
    """The programs of our own and where they run."""

    load: Path
    backend_pid: int
    gateway_cpus: frozenset[int]
    load_cpus: frozenset[int]


@dataclass(slots=True)
class _Counters:
    at_s: float
    gateway_s: float
    store_s: float
    own_s: float
    busy_s: float

    @classmethod
    def read(cls, bench: Bench, gateway: Gateway, load_pid: int) -> _Counters:
        own_s = kernel.process_cpu_s(bench.backend_pid) + kernel.process_cpu_s(load_pid) + time.process_time()
        return cls(
            at_s=time.monotonic(),
            gateway_s=kernel.tree_cpu_s(gateway.roots),
            store_s=kernel.tree_cpu_s(gateway.store_roots),
            own_s=own_s,
            busy_s=kernel.machine().busy_s,
        )


def run_slice(bench: Bench, gateway: Gateway, peer: str, scenario: Scenario, meter: Meter | None = None) -> Slice:
    """Runs the load once; `meter` is called at the start and at the end of its window.

    A load that fails to start or to end in time is an error of the slice, not of the run.
    """
    result = Slice(peer, scenario.name)
    if scenario.hold:
        result.before_pss_bytes = kernel.tree_pss_bytes(gateway.roots)
    load = _start_load(bench, gateway, scenario)
    try:
        _follow(bench, gateway, scenario, load, result, meter)
    except (TimeoutError, EOFError, json.JSONDecodeError) as error:
        result.errors += 1
        result.error = str(error)[:200]
    finally:
        processes.end(load)
    if scenario.hold:
        result.left_open = _wait_until_left(gateway)
    result.calm_s = wait_until_calm(gateway)
    return result


def _start_load(bench: Bench, gateway: Gateway, scenario: Scenario) -> subprocess.Popen[bytes]:
    command = [str(bench.load), f"--port={gateway.port}", *scenario.arguments(), f"--timeout-s={OPEN_TIMEOUT_S}"]
    command += [f"--header={header}" for header in gateway.headers]
    with processes.pinned(bench.load_cpus):
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def wait_until_calm(gateway: Gateway) -> float:
    """Waits until the gateway is idle, so that it does not disturb the next one. Returns the seconds it took."""
    began_s = time.monotonic()
    while True:
        before_s, at_s = kernel.tree_cpu_s(gateway.roots), time.monotonic()
        time.sleep(CALM_STEP_S)
        now_s = time.monotonic()
        used = (kernel.tree_cpu_s(gateway.roots) - before_s) / (now_s - at_s)
        if used < CALM_CORES or now_s - began_s > CALM_MAX_S:
            return at_s - began_s


def _follow(
    bench: Bench,
    gateway: Gateway,
    scenario: Scenario,
    load: subprocess.Popen[bytes],
    result: Slice,
    meter: Meter | None,
) -> None:
    if scenario.hold:
        result.streams_open = int(processes.read_line(load, OPEN_TIMEOUT_S + 10).split()[1])
        if scenario.seconds == 0:
            time.sleep(SETTLE_S)
            result.open_pss_bytes = kernel.tree_pss_bytes(gateway.roots)
    if scenario.seconds > 0:
        processes.expect(load, "start", OPEN_TIMEOUT_S)
        before = _Counters.read(bench, gateway, load.pid)
        if meter is not None:
            meter()
        crowd = _start_load(bench, gateway, crowd_of(scenario)) if scenario.opens else None
        try:
            processes.expect(load, "stop", scenario.seconds + 30)
        finally:
            if crowd is not None:
                processes.end(crowd)
        if meter is not None:
            meter()
        _account(bench, before, _Counters.read(bench, gateway, load.pid), result)
    assert load.stdin is not None
    load.stdin.close()
    _take(json.loads(processes.read_line(load, 60)), scenario, result)


def _wait_until_left(gateway: Gateway) -> int:
    """Streams that the backends serve for clients that are gone, once they are none or the time is over."""
    deadline_s = time.monotonic() + LEAVE_S
    while (left := _running(gateway)) > 0 and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return left


def _running(gateway: Gateway) -> int:
    """Requests this gateway's backends are serving."""
    running = 0
    for port in gateway.backends:
        page = processes.http(f"http://127.0.0.1:{port}/metrics").decode()
        for line in page.splitlines():
            if line.startswith("vllm:num_requests_running"):
                running += int(float(line.split()[-1]))
    return running


def _account(bench: Bench, before: _Counters, after: _Counters, result: Slice) -> None:
    passed_s = after.at_s - before.at_s
    own_s = after.own_s - before.own_s
    result.cpu_s = after.gateway_s - before.gateway_s
    result.store_cpu_s = after.store_s - before.store_s
    others_s = after.busy_s - before.busy_s - result.cpu_s - own_s
    result.others_cores = max(0.0, others_s / passed_s)
    result.bench_use = own_s / passed_s / len(bench.load_cpus)


def _take(said: dict[str, Any], scenario: Scenario, result: Slice) -> None:
    result.window_s = said["window_s"]
    result.requests = said["requests"]
    result.reads = said["reads"]
    result.rewritten = said["rewritten"]
    result.errors = sum(said["errors"].values())
    result.error = said["sample"]
    if scenario.hold:
        result.chunks = said["events"]
    elif scenario.stream:
        # Events at the edges of the window belong to streams that are not complete there, so events are counted; those
        # that are no token (role, usage, [DONE], what a gateway adds) go out by the share complete streams have.
        events_per_stream = said["stream_events"] / said["streams"] if said["streams"] else scenario.chunks + 3
        result.chunks = said["events"] * scenario.chunks / events_per_stream
    result.latency_ns, result.first_ns, result.gap_ns = said["latency_ns"], said["first_ns"], said["gap_ns"]


def start_backend(count: int, cpus: frozenset[int]) -> tuple[subprocess.Popen[bytes], tuple[int, ...]]:
    program = environments.compiled(environments.HERE / "backend" / "backend.c")
    with processes.pinned(cpus):
        backend = subprocess.Popen([program, str(count)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
    ports = tuple(int(port) for port in processes.read_line(backend, 10).split()[1:])
    return backend, ports


def load_program() -> Path:
    return environments.compiled(environments.HERE / "load" / "load.c", ["-lm"])
