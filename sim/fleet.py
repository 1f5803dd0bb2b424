"""A world of simulated engines as child processes: what the demo, the tests and the chaos run against.

    with SimFleet(model="llama-3.1-8b", seen_from="us-east") as fleet:
        fleet.backends[0].kill()

Each engine is a process of its own, so that killing, freezing and restarting it are the real thing. They end with the
process that started them, however that ends.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from sim.geography import DEFAULT_REGIONS, RegionPlan, city_of, rtt_ms

_START_TIMEOUT_S = 20.0
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class EngineStartError(Exception):
    """A child did not come up; the text says what it wrote."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What one engine of a fleet is to be."""

    name: str
    region: RegionPlan
    model: str
    engine: str = "vllm"
    profile: str = "demo"
    rtt_ms: float = 0.0
    port: int = 0
    host: str = "127.0.0.1"
    seed: int = 0
    max_waiting: int | None = None

    def arguments(self, port: int) -> list[str]:
        out = ["--port", str(port), "--model", self.model, "--host", self.host, "--engine", self.engine]
        out += ["--profile", self.profile, "--rtt-ms", f"{self.rtt_ms:g}", "--seed", str(self.seed), "--quiet"]
        if self.max_waiting is not None:
            out += ["--max-waiting", str(self.max_waiting)]
        return out


class SimBackend:
    """One engine process. ``url`` stays the same over restarts."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.region = spec.region.name
        self.rtt_ms = spec.rtt_ms
        self.port = spec.port
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.spec.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        environment = dict(os.environ)
        root = str(Path(__file__).resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(p for p in (root, environment.get("PYTHONPATH", "")) if p)
        command = [sys.executable, "-m", "sim.run", *self.spec.arguments(self.port), "--until-stdin-closes"]
        if threading.current_thread() is threading.main_thread():
            # The kernel's death signal is tied to the starting thread, so only the main one may ask for it.
            command += ["--parent", str(os.getpid())]
        # A file, not a pipe: nobody reads what it says later, and a full pipe would stop it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the process has ended)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
        )

    @property
    def errors(self) -> str:
        """What the process has written to its standard error."""
        if self._errors is None or self._errors.closed:
            return ""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def ready(self, line: str) -> None:
        """Take the address from the line that the child prints when it listens."""
        self.port = int(line.rsplit(":", 1)[1])

    def kill(self) -> None:
        """SIGKILL: the host is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close_pipes()

    def terminate(self, timeout_s: float = 5.0) -> int:
        """SIGTERM, then SIGKILL when it takes too long. Returns the exit status."""
        if self._process is None:
            return 0
        self.cont()
        self._process.terminate()
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._close_pipes()
        return status

    def stop(self) -> None:
        """SIGSTOP: the process is there and does nothing."""
        if self.alive:
            os.kill(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT: and goes on."""
        if self.alive:
            os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """A new process at the same address, with an empty cache."""
        self.kill()
        self.spawn()
        _await_ready([self])

    def fault(self, kind: str, **parameters: Any) -> dict[str, Any]:
        """Put a fault in force; see sim/faults.py."""
        return self._post("/sim/faults", {"kind": kind, **parameters})

    def reset(self) -> None:
        """No faults, no recorded aborts, an empty prefix cache."""
        self._post("/sim/reset", {})

    def state(self) -> dict[str, Any]:
        return self._call("GET", "/sim/state", None)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", path, json.dumps(body).encode())

    def _call(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self.spec.host, self.port, timeout=10.0)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status >= 400:
            raise ValueError(answer.get("error", answer))
        return answer

    def _close_pipes(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout, self._errors):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


class SimFleet:
    """Several engines. Ports are free ones unless given, one for each backend in order.

    ``seen_from`` is a region or city: each engine is as far away as its region is from there; None: no latency.
    ``rtt_ms`` overrides that per region. Of several kinds of ``engine``, the backends of each region take turns.
    """

    def __init__(
        self,
        regions: Sequence[RegionPlan] = DEFAULT_REGIONS,
        *,
        model: str = "llama-3.1-8b",
        engine: str | Sequence[str] = "vllm",
        profile: str = "demo",
        seen_from: str | None = None,
        rtt_ms: dict[str, float] | None = None,
        ports: Sequence[int] | None = None,
        max_waiting: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.regions = tuple(regions)
        self.model = model
        kinds = (engine,) if isinstance(engine, str) else tuple(engine)
        distances = {r.name: _distance_ms(seen_from, r, self.regions) for r in self.regions} | (rtt_ms or {})
        names = [(r, _LETTERS[i], kinds[i % len(kinds)]) for r in self.regions for i in range(r.backends)]
        if ports is not None and len(ports) != len(names):
            raise ValueError(f"{len(names)} backends need {len(names)} ports, not {len(ports)}")
        self.backends = [
            SimBackend(
                EngineSpec(
                    f"{region.name}/{letter}",
                    region,
                    model,
                    kind,
                    profile,
                    distances[region.name],
                    ports[i] if ports else 0,
                    host,
                    seed=i,
                    max_waiting=max_waiting,
                )
            )
            for i, (region, letter, kind) in enumerate(names)
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start all engines at the same time; returns when all listen. Raises EngineStartError."""
        try:
            for backend in self.backends:
                backend.spawn()
            _await_ready(self.backends)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for backend in self.backends:
            backend.kill()

    def backend(self, name: str) -> SimBackend:
        """By full name, e.g. ``us-east/a``."""
        return next(b for b in self.backends if b.name == name)

    def in_region(self, name: str) -> list[SimBackend]:
        return [b for b in self.backends if b.region == name]

    def regions_toml(self) -> str:
        """The ``[[regions]]`` part of a regions.toml that leads to these engines."""
        lines: list[str] = []
        for region in self.regions:
            latitude, longitude = region.location
            lines += [
                "[[regions]]",
                f'name = "{region.name}"',
                f"location = [{latitude}, {longitude}]",
                f'jurisdiction = "{region.jurisdiction}"',
            ]
            for backend in self.in_region(region.name):
                lines += [
                    "  [[regions.backends]]",
                    f'  name = "{backend.name.split("/")[1]}"',
                    f'  url = "{backend.url}"',
                    f'  engine = "{backend.spec.engine}"',
                    f'  models = ["{self.model}"]',
                ]
            lines.append("")
        return "\n".join(lines)


def _distance_ms(seen_from: str | None, region: RegionPlan, regions: tuple[RegionPlan, ...]) -> float:
    if seen_from is None:
        return 0.0
    return rtt_ms()[city_of(seen_from, regions), region.city]


def _await_ready(backends: Sequence[SimBackend]) -> None:
    """Until every child has printed its address."""
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    waiting = selectors.DefaultSelector()
    for backend in backends:
        assert backend._process is not None
        assert backend._process.stdout is not None
        waiting.register(backend._process.stdout, selectors.EVENT_READ, (backend, bytearray()))
    with waiting:
        while waiting.get_map():
            ready = waiting.select(max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise EngineStartError(f"an engine did not start within {_START_TIMEOUT_S:g} s")
            for key, _ in ready:
                backend, text = key.data
                chunk = os.read(key.fd, 65536)
                text += chunk
                if not chunk:
                    raise EngineStartError(f"{backend.name} ended at once: {backend.errors.strip()}")
                for line in text.decode(errors="replace").splitlines(keepends=True):
                    if line.startswith("listening on ") and line.endswith("\n"):
                        backend.ready(line.strip())
                        waiting.unregister(key.fileobj)
