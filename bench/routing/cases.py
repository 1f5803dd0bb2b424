"""What is compared: workloads in worlds, at shares of what the world can carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import exp, inf, log
from pathlib import Path
from random import Random

from sim.traces import Trace, load_trace
from sim.workloads import Chats, conversations
from sim.world import World
from sim.world_plan import WorldPlan, built_in_world

#: shares of the measured capacity
LOADS = (0.60, 0.80, 0.95)
#: with a region lost half-way: two thirds of the engines then carry 90 % of what they can
LOST_LOAD = 0.60
LOST_REGION = "us-east"

Script = tuple[tuple[float, Callable[[World, float], None]], ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """Traffic that can be had at any pace, and the GPU that serves it."""

    name: str
    #: the trace at so many requests per second
    at: Callable[[float], Trace]
    profile: str
    #: whether prompts share prefixes
    shares_prefixes: bool
    #: see ``WorldPlan``
    tell_all: bool = False
    told_every_s: float = 0.1
    told_late_s: float = 0.1

    @property
    def world(self) -> WorldPlan:
        plan = built_in_world(self.profile)
        return replace(plan, tell_all=self.tell_all, peers_s=self.told_every_s, peers_late_s=self.told_late_s)


@dataclass(frozen=True, slots=True)
class Case:
    """One row group of the table: a workload at a load."""

    workload: Workload
    load: float
    requests_per_s: float
    lost: bool = False

    @property
    def name(self) -> str:
        return f"{self.workload.name} {self.load:.0%}" + " region lost" * self.lost

    @property
    def trace(self) -> Trace:
        return self.workload.at(self.requests_per_s)

    def lost_s(self, trace: Trace) -> float:
        """When the region is lost; never: infinity."""
        return trace.duration_s / 2 if self.lost else inf

    def script(self, trace: Trace) -> Script:
        return ((self.lost_s(trace), _lose_region),) if self.lost else ()


def _lose_region(world: World, now_s: float) -> None:
    for name in world.in_region(LOST_REGION):
        world.kill(name, now_s)


#: the regions are not equally busy
_SHARES = {"us-east": 0.5, "eu-central": 0.3, "ap-northeast": 0.2}

_MADE: Mapping[str, tuple[Chats, str]] = {
    "chats": (Chats(), "a100-llama-3.1-8b"),
    "agents": (
        Chats(instructions=6, instruction_tokens=4096, turn_tokens=600.0, answer_tokens=90.0, turns=12.0, think_s=6.0),
        "a100-llama-3.1-8b",
    ),
    "documents": (
        Chats(instructions=60, instruction_tokens=8192, turn_tokens=80.0, answer_tokens=250.0, turns=1.5, think_s=30.0),
        "h100-llama-3.1-8b",
    ),
}

#: the same, and hardly anything of the policy was chosen by them (ADR 16): run when --held-out asks for it
HELD_OUT: Mapping[str, tuple[Chats, str]] = {
    "support": (
        Chats(
            instructions=40,
            instruction_tokens=1500,
            turn_tokens=400.0,
            answer_tokens=120.0,
            turns=6.0,
            think_s=10.0,
            spread=1.0,
        ),
        "a100-llama-3.1-8b",
    ),
    "library": (
        Chats(instructions=300, instruction_tokens=5000, turn_tokens=150.0, answer_tokens=100.0, turns=2.0),
        "h100-llama-3.1-8b",
    ),
    "assistants": (
        Chats(instructions=8, instruction_tokens=6000, turn_tokens=500.0, answer_tokens=150.0, turns=10.0, think_s=8.0),
        "h100x2-llama-3.3-70b",
    ),
}

#: file name of a recorded trace -> (short name, GPU, whether prompts share prefixes)
_RECORDED: Mapping[str, tuple[str, str, bool]] = {
    "azure_llm_conv_2023.csv": ("azure", "a100-llama-3.1-8b", False),
    "mooncake_synthetic.jsonl": ("mooncake", "h100-llama-3.1-8b", True),
}


def recorded(file: Path, requests: int) -> Callable[[float], Trace]:
    """The first ``requests`` of a recorded trace, faster or slower."""
    trace = load_trace(file, limit=requests)
    recorded_per_s = len(trace.arrivals) / trace.duration_s
    return lambda requests_per_s: trace.faster(requests_per_s / recorded_per_s)


def made(name: str, chats: Chats, requests: int, seed: int) -> Callable[[float], Trace]:
    """Conversations: at a higher rate there are more of them, and each goes at its own pace."""
    # Recorded from the middle: at first there are only first turns, and too few requests.
    ramp_s = 2.0 * chats.turns * (chats.think_s + chats.answer_tokens * 0.02)

    def at(requests_per_s: float) -> Trace:
        rates = {region: share * requests_per_s for region, share in _SHARES.items()}
        trace = conversations(rates, ramp_s + requests / requests_per_s, seed=seed, chats=chats)
        kept = tuple(replace(a, at_s=a.at_s - ramp_s) for a in trace.arrivals if a.at_s >= ramp_s)
        # The made rate is only about the wanted one.
        cut = replace(trace, name=name, arrivals=kept)
        return cut.faster(requests_per_s * cut.duration_s / len(kept))

    return at


def workloads(traces: Path | None, requests: int, seed: int) -> list[Workload]:
    """The made and held-out ones and those recorded ones that are in the folder ``traces``, about ``requests`` each."""
    found = []
    for file, (name, profile, shares) in _RECORDED.items():
        if traces is not None and (traces / file).exists():
            found.append(Workload(name, recorded(traces / file, requests), profile, shares))
    for name, (chats, profile) in {**_MADE, **HELD_OUT}.items():
        found.append(Workload(name, made(name, chats, requests, seed), profile, True))
    return found


#: a workload that is drawn has this name and a number
DRAWN = "drawn "
_DRAWN_PROFILES = ("h100-llama-3.1-8b", "a100-llama-3.1-8b", "l4-llama-3.1-8b", "h100x2-llama-3.3-70b")


def drawn(number: int, requests: int, seed: int) -> Workload:
    """Conversations that nobody chose, and a GPU for them: another ``number`` or ``seed``, other ones.

    From short chats to long documents, few instructions or many, one turn or a dozen: evenly, on logarithmic scales.
    """
    rng = Random(f"{seed} {number}")

    def between(low: float, high: float) -> float:
        return exp(rng.uniform(log(low), log(high)))

    chats = Chats(
        instructions=round(between(3, 400)),
        instruction_tokens=round(between(200, 10_000)),
        turn_tokens=between(40, 1500),
        answer_tokens=between(40, 500),
        spread=rng.uniform(0.4, 1.2),
        turns=between(1.05, 12),
        think_s=between(3, 30),
    )
    name = f"{DRAWN}{number}"
    return Workload(name, made(name, chats, requests, seed), rng.choice(_DRAWN_PROFILES), True)


def named(name: str, traces: Path | None, requests: int, seed: int) -> Workload:
    """The workload of that name. Raises StopIteration when there is none."""
    if name.startswith(DRAWN):
        return drawn(int(name.removeprefix(DRAWN)), requests, seed)
    return next(w for w in workloads(traces, requests, seed) if w.name == name)


def cases(workload: Workload, capacity_per_s: float) -> list[Case]:
    """The loads of one workload; ``capacity_per_s``: the requests per second that just saturate its world."""
    loads = [Case(workload, load, load * capacity_per_s) for load in LOADS]
    return [*loads, Case(workload, LOST_LOAD, LOST_LOAD * capacity_per_s, lost=True)]
