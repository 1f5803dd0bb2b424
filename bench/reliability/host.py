"""A machine of a region: one process that serves several simulated engines, so that its death is the death of them all.

``python -m bench.reliability.host --engines vllm=m,sglang=m …`` prints the port of each engine, then serves until its
standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Machine:
    """An engine of a host, as its control endpoint is reached."""

    name: str
    kind: str
    model: str
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fault(self, kind: str, **parameters: object) -> None:
        """Put a fault in force; see sim/faults.py."""
        self._call("POST", "/sim/faults", {"kind": kind, **parameters})

    def reset(self) -> None:
        self._call("POST", "/sim/reset", {})

    def state(self) -> dict[str, Any]:
        return self._call("GET", "/sim/state", None)

    def _call(self, method: str, path: str, body: object) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20.0)
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"content-type": "application/json"})
            answer = connection.getresponse()
            document: dict[str, Any] = json.loads(answer.read())
        if answer.status >= 400:
            raise ValueError(document)
        return document


class Host:
    """One process. Its engines have the same ports after a ``restart``."""

    def __init__(
        self, region: str, kinds: Sequence[str], models: Sequence[str], *, profile: str, rtt_ms: float
    ) -> None:
        self.region = region
        self._engines = [(kind, model) for model in models for kind in kinds]
        self._options = ["--profile", profile, "--rtt-ms", str(rtt_ms)]
        self._process: subprocess.Popen[bytes] | None = None
        self.machines: list[Machine] = []

    def start(self) -> None:
        """Raises RuntimeError when it does not come up."""
        ports = [str(m.port) for m in self.machines] or ["0"] * len(self._engines)
        command = [sys.executable, "-m", "bench.reliability.host", "--ports", ",".join(ports)]
        command += ["--engines", ",".join(f"{kind}={model}" for kind, model in self._engines), *self._options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert self._process.stdout is not None
        timer = threading.Timer(_START_S, self._process.kill)
        timer.start()
        line = self._process.stdout.readline().decode()
        timer.cancel()
        if not line:
            raise RuntimeError(f"the engines of {self.region} did not start")
        self.machines = [
            Machine("abcdefgh"[i], kind, model, int(port))
            for i, ((kind, model), port) in enumerate(zip(self._engines, line.split(), strict=True))
        ]

    def kill(self) -> None:
        """SIGKILL: the machine is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections are accepted by the kernel, and nothing comes."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """No effect on one that is gone."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)


async def serve(options: argparse.Namespace) -> None:
    from sim.engine_http import Server

    ports = []
    for number, (name, port) in enumerate(zip(options.engines.split(","), options.ports.split(","), strict=True)):
        kind, model = name.split("=")
        server = Server(model, engine=kind, profile=options.profile, rtt_ms=options.rtt_ms, seed=number, on_crash=_die)
        ports.append(await server.start("127.0.0.1", int(port)))
    print(*ports, flush=True)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, gone.set)
    await gone.wait()


def _die() -> None:
    os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reliability.host", description=__doc__)
    for name in ("--engines", "--ports", "--profile"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    options = parser.parse_args()
    import uvloop

    uvloop.run(serve(options))


if __name__ == "__main__":
    main()
