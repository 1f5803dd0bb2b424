"""Instructions of the interpreter per request and per streamed chunk, whatever the machine is doing meanwhile."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import measure
from bench.guard.rig import SCENARIOS, Failed, Rig, answers
from bench.peers import Gateway, meridian
from bench.scenarios import Scenario

WINDOW_S, WARM_S = 0.4, 0.15
WINDOWS = 5
IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions per request or chunk, in all and by function."""

    total: float
    by_function: dict[str, float]


@dataclass(frozen=True, slots=True)
class Reading:
    at_s: float
    by_function: dict[str, int]


def counted(rig: Rig) -> dict[str, Count]:
    """One count per scenario: the least of a few windows. Starved routers take detours (a store that is late).

    The work that the router does on timers, without requests, is subtracted: on a slow machine fewer requests share it.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "count")
        program = (Path(__file__).with_name("count.py"), place)
        gateway = rig.start("counted", partial(meridian.start, shared=True, program=program))
        idle_rates = _idle_rates(place)
        found = {}
        for scenario in SCENARIOS:
            windows = [_window(rig, gateway, scenario, place, idle_rates) for _ in range(WINDOWS)]
            found[scenario.name] = min(windows, key=lambda count: count.total)
        rig.stop(gateway)
    return found


def _idle_rates(place: str) -> dict[str, float]:
    """Instructions per second of each function while nobody asks anything."""
    before = _ask(place)
    time.sleep(IDLE_S)
    after = _ask(place)
    elapsed_s = after.at_s - before.at_s
    return {name: (now - before.by_function.get(name, 0)) / elapsed_s for name, now in after.by_function.items()}


def _window(rig: Rig, gateway: Gateway, scenario: Scenario, place: str, idle_rates: dict[str, float]) -> Count:
    readings: list[Reading] = []

    def meter() -> None:
        readings.append(_ask(place))

    slice_ = measure.run_slice(rig.bench, gateway, "", rig.timed(scenario, WINDOW_S, WARM_S), meter)
    count = answers(slice_, scenario)
    before, after = readings
    elapsed_s = after.at_s - before.at_s
    by_function = {
        name: (now - before.by_function.get(name, 0) - idle_rates.get(name, 0.0) * elapsed_s) / count
        for name, now in after.by_function.items()
    }
    return Count(sum(by_function.values()), by_function)


def _ask(place: str) -> Reading:
    said = bytearray()
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(10.0)
        asker.connect(place)
        while piece := asker.recv(65_536):
            said += piece
    if not said:
        raise Failed("the counted router says nothing")
    return Reading(time.monotonic(), json.loads(said))
