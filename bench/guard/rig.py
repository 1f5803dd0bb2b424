"""The parts that both measurements of the guard share: backend, gateways that are surely ended, scenarios."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench import environments, measure, processes, run
from bench.peers import Gateway, Site
from bench.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKENDS = 6

SCENARIOS = (
    Scenario("request", "whole answer, 200 B prompt", "request", 16),
    Scenario("request-16k", "whole answer, 16 KiB prompt", "request", 16, prompt_bytes=16_384),
    Scenario("chunk", "streamed chunk", "chunk", 50, chunks=1_000, interval_us=20_000, stream=True, hold=True),
)
WARM_UP = (
    Scenario("warm-up", "", "request", 16, seconds=1.0, warm_s=0.0),
    Scenario("warm-up", "", "chunk", 16, chunks=64, stream=True, seconds=0.5, warm_s=0.0),
)


class Failed(Exception):  # noqa: N818 - the verdict, not a fault of the guard
    """There is nothing to compare: a slice had errors or no answers."""


@dataclass(slots=True)
class Rig:
    bench: measure.Bench
    ports: tuple[int, ...]
    running: list[Gateway] = field(default_factory=list)

    def start(self, name: str, start: Callable[[Site], Gateway]) -> Gateway:
        """A gateway, warm."""
        folder = environments.OUT / "guard" / name
        site = Site(processes.free_port(), self.ports, folder, self.bench.gateway_cpus, self.bench.load_cpus)
        site.log.unlink(missing_ok=True)
        gateway = start(site)
        self.running.append(gateway)
        for scenario in WARM_UP:
            measure.run_slice(self.bench, gateway, name, scenario)
        return gateway

    def stop(self, gateway: Gateway) -> None:
        self.running.remove(gateway)
        gateway.stop()

    @staticmethod
    def timed(scenario: Scenario, seconds: float, warm_s: float) -> Scenario:
        return replace(scenario, seconds=seconds, warm_s=warm_s)


@contextlib.contextmanager
def rigged() -> Iterator[Rig]:
    """A backend, and nothing left running afterwards."""
    processes.raise_file_limit(run.FILES_WANTED)
    gateway_cpus, load_cpus = run.share_cores()
    os.sched_setaffinity(0, load_cpus)
    backend, ports = measure.start_backend(BACKENDS, load_cpus)
    rig = Rig(measure.Bench(measure.load_program(), backend.pid, gateway_cpus, load_cpus), ports)
    try:
        yield rig
    finally:
        for gateway in rig.running:
            gateway.stop()
        processes.end(backend)


def answers(slice_: measure.Slice, scenario: Scenario) -> float:
    """The number a slice's cost is divided by. Raises Failed if it had errors or none."""
    count = slice_.chunks if scenario.unit == "chunk" else float(slice_.requests)
    if slice_.errors or not count:
        raise Failed(f"{scenario.title}: {slice_.errors} errors, {count:.0f} answers. {slice_.error}")
    return count
