"""Instructions of the interpreter per request and per streamed chunk, whatever the machine is doing meanwhile."""

from __future__ import annotations

import socket
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from bench import measure
from bench.guard.rig import SCENARIOS, Failed, Rig, answers
from bench.peers import meridian

WINDOW_S, WARM_S = 0.6, 0.2
WINDOWS = 3


def counted(rig: Rig) -> dict[str, float]:
    """One figure per scenario, the median of a few windows."""
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "count")
        program = (Path(__file__).with_name("count.py"), place)
        gateway = rig.start("counted", partial(meridian.start, shared=True, program=program))
        found = {}
        for scenario in SCENARIOS:
            timed = rig.timed(scenario, WINDOW_S, WARM_S)
            windows = [measure.run_slice(rig.bench, gateway, "", timed, partial(_ask, place)) for _ in range(WINDOWS)]
            found[scenario.name] = median(one.metered / answers(one, scenario) for one in windows)
        rig.stop(gateway)
    return found


def _ask(place: str) -> float:
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(10.0)
        asker.connect(place)
        said = asker.recv(64)
    if not said:
        raise Failed("the counted router says nothing")
    return float(said)
