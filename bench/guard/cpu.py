"""CPU time per request and per streamed chunk as a multiple of what a fixed proxy (reference.py) needs meanwhile."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from bench import measure
from bench.guard.rig import SCENARIOS, Rig, answers
from bench.peers import Gateway, Site, meridian
from bench.peers.base import launch
from bench.scenarios import Scenario

WINDOW_S, WARM_S = 0.25, 0.1
PAIRS = 8
BATCHES_MAX = 2


def ratios(rig: Rig, limits: dict[str, float]) -> dict[str, float]:
    """One ratio per scenario; one over its limit is measured once more.

    Both programs run in turns. Noise only ever adds CPU time, and hits a program with much code harder, so the cheapest
    slice of each stands for it.
    """
    router = rig.start("router", partial(meridian.start, shared=True))
    reference = rig.start("reference", start_reference)
    found = {}
    for scenario in SCENARIOS:
        costs_s: dict[int, list[float]] = {id(router): [], id(reference): []}
        for _ in range(BATCHES_MAX):
            for _ in range(PAIRS):
                for gateway in (router, reference):
                    costs_s[id(gateway)].append(_cost_s(rig, gateway, scenario))
            found[scenario.name] = min(costs_s[id(router)]) / min(costs_s[id(reference)])
            if found[scenario.name] <= limits.get(scenario.name, 0.0):
                break
    return found


def _cost_s(rig: Rig, gateway: Gateway, scenario: Scenario) -> float:
    slice_ = measure.run_slice(rig.bench, gateway, "", rig.timed(scenario, WINDOW_S, WARM_S))
    return slice_.cpu_s / answers(slice_, scenario)


def start_reference(site: Site) -> Gateway:
    program = Path(__file__).with_name("reference.py")
    return launch(site, [sys.executable, program, str(site.port), str(site.backends[0])], ready="/health")
