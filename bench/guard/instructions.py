"""Instructions of the interpreter per request and per streamed chunk, whatever the machine is doing meanwhile."""

from __future__ import annotations

import json
import socket
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import measure
from bench.guard.rig import SCENARIOS, Failed, Rig, answers
from bench.peers import Gateway, meridian
from bench.scenarios import Scenario

WINDOW_S, WARM_S = 0.4, 0.15
WINDOWS = 5


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions per request or chunk, in all and by function."""

    total: float
    by_function: dict[str, float]


def counted(rig: Rig) -> dict[str, Count]:
    """One count per scenario: the least of a few windows. Starved routers take detours (a store that is late)."""
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "count")
        program = (Path(__file__).with_name("count.py"), place)
        gateway = rig.start("counted", partial(meridian.start, shared=True, program=program))
        found = {}
        for scenario in SCENARIOS:
            windows = [_window(rig, gateway, scenario, place) for _ in range(WINDOWS)]
            found[scenario.name] = min(windows, key=lambda count: count.total)
        rig.stop(gateway)
    return found


def _window(rig: Rig, gateway: Gateway, scenario: Scenario, place: str) -> Count:
    readings: list[dict[str, int]] = []

    def meter() -> None:
        readings.append(_ask(place))

    slice_ = measure.run_slice(rig.bench, gateway, "", rig.timed(scenario, WINDOW_S, WARM_S), meter)
    count = answers(slice_, scenario)
    before, after = readings
    by_function = {name: (now - before.get(name, 0)) / count for name, now in after.items()}
    return Count(sum(by_function.values()), by_function)


def _ask(place: str) -> dict[str, int]:
    said = bytearray()
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(10.0)
        asker.connect(place)
        while piece := asker.recv(65_536):
            said += piece
    if not said:
        raise Failed("the counted router says nothing")
    by_function: dict[str, int] = json.loads(said)
    return by_function
