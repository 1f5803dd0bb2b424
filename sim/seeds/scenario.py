"""A scenario: fleet, traffic and troubles, all of it made from one integer.

The same seed gives the same scenario on every machine. Requests and troubles are numbered, so that a part of a scenario
can be named: ``part_of`` keeps some of them, which is how a failing scenario is made smaller.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, replace

from router.core.params import Params
from router.core.policy import POLICIES
from router.core.traits import Continues
from router.core.types import BackendSpec, Priority, RegionSpec
from sim.seeds.troubles import Trouble, draw_trouble

_PLACES = (
    RegionSpec("us-east", "us", (38.9, -77.0)),
    RegionSpec("us-west", "us", (37.4, -122.1)),
    RegionSpec("eu-west", "eu", (53.3, -6.3)),
    RegionSpec("ap-east", "jp", (35.7, 139.7)),
)
_MODELS = ("big", "small")
_LETTERS = "abcdefgh"


@dataclass(frozen=True, slots=True)
class Box:
    """One engine: as configured, and how fast it is."""

    spec: BackendSpec
    places: int  # requests that it serves at once
    base_s: float  # to the first token, for any prompt
    prompt_token_s: float
    token_s: float  # between tokens of the answer


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a client."""

    number: int
    at_s: float
    router: int
    models: tuple[str, ...]
    prompt_tokens: int
    output_tokens: int
    tenant: str
    residency: frozenset[str] | None = None
    pin_region: str | None = None
    pin_backend: str | None = None
    affinity: str | None = None
    priority: Priority = Priority.STANDARD
    deadline_s: float = float("inf")  # after its arrival
    leaves_s: float = float("inf")  # the client gives up, after its arrival
    stream: bool = True
    rest: Continues = Continues.NO  # the least that who continues its answer must be able to
    light: bool = False
    deadly: bool = False  # engines die of it
    last: bool = False  # it comes when everything has been well for a while


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    params: Params
    policy: str
    from_s: float  # what the monotonic clock says in the beginning
    boxes: tuple[Box, ...]
    spares: tuple[Box, ...]  # not configured in the beginning
    routers: tuple[str, ...]  # regions
    asks: tuple[Ask, ...]
    troubles: tuple[Trouble, ...]
    until_s: float  # the troubles are over
    first_token_s: float  # how long routers wait for a first token, and between tokens
    token_gap_s: float
    hedge_share: float = 0.0  # of all attempts; 0: requests are not hedged
    jitter: float = 0.0  # first tokens take up to this share longer or shorter

    @property
    def regions(self) -> dict[str, RegionSpec]:
        return {box.spec.region.name: box.spec.region for box in (*self.boxes, *self.spares)}


def scenario_of(seed: int) -> Scenario:
    """The scenario that ``seed`` stands for."""
    rng = random.Random(f"scenario {seed}")
    params = _params(rng)
    regions = rng.sample(_PLACES, rng.choice((1, 1, 2, 2, 3)))
    boxes = _boxes(regions, rng)
    routers = tuple(rng.choice(regions).name for _ in range(rng.choice((1, 1, 1, 2))))
    busy_s = rng.choice((2.0, 4.0, 8.0, 14.0))
    asks = _asks(rng, boxes, routers, busy_s)
    count = rng.choice((0, 1, 1, 2, 2, 3, 4, 6))
    spare = Box(replace(boxes[0].spec, name=f"{regions[-1].name}/spare", region=regions[-1]), 4, 0.05, 1e-4, 0.02)
    names = [box.spec.name for box in boxes]
    troubles = [draw_trouble(number, names, len(routers), busy_s, rng) for number in range(count)]
    until_s = max([busy_s, *(trouble.until_s for trouble in troubles)])
    policy = "ttft" if rng.random() < 0.5 else rng.choice(sorted(POLICIES))
    return Scenario(
        seed,
        params,
        policy,
        rng.choice((0.0, 7.3, 98_765.4, 3e6)),
        tuple(boxes),
        (spare,),
        routers,
        tuple(asks),
        tuple(sorted(troubles, key=lambda trouble: trouble.at_s)),
        until_s,
        rng.choice((2.0, 6.0)),
        rng.choice((1.5, 4.0)),
        rng.choice((0.0, 0.05, 0.3)),
        rng.choice((0.0, 0.3)),
    )


def part_of(scenario: Scenario, asks: Collection[int], troubles: Collection[int]) -> Scenario:
    """The same scenario with these requests and troubles only, named by their numbers."""
    return replace(
        scenario,
        asks=tuple(ask for ask in scenario.asks if ask.number in asks),
        troubles=tuple(trouble for trouble in scenario.troubles if trouble.number in troubles),
    )


def _params(rng: random.Random) -> Params:
    return Params(
        attempts_max=rng.choice((1, 2, 3, 3, 3, 5)),
        queue_max=rng.choice((3, 20, 1024)),
        wait_max_s=rng.choice((1.0, 5.0, 30.0)),
        retry_floor_per_s=rng.choice((0.0, 0.5, 10.0, 10.0)),
    )


def _boxes(regions: list[RegionSpec], rng: random.Random) -> list[Box]:
    boxes = []
    base_s = rng.choice((0.02, 0.1, 0.4))
    for region in regions:
        for i in range(rng.choice((1, 2, 2, 3, 4))):
            models = _MODELS if rng.random() < 0.5 else (rng.choice(_MODELS),)
            short = _LETTERS[i]
            spec = BackendSpec(
                f"{region.name}/{short}",
                region,
                f"{rng.choice(('http', 'https'))}://{short}.{region.name}:8000",
                rng.choice(("vllm", "vllm", "sglang", "tgi")),
                models,
                rng.choice((1, 2, 4, 16, 256)),
                cost_usd_hour=rng.choice((0.0, 1.0, 4.0)),
            )
            pace = rng.choice((1.0, 1.0, 1.0, 2.0))
            boxes.append(Box(spec, rng.choice((1, 2, 8, 64)), base_s * pace, rng.choice((1e-5, 2e-4)) * pace, 0.02))
    return boxes


def _asks(rng: random.Random, boxes: list[Box], routers: tuple[str, ...], busy_s: float) -> list[Ask]:
    served = sorted({model for box in boxes for model in box.spec.models})
    jurisdictions = sorted({str(box.spec.region.jurisdiction) for box in boxes})
    asks = []
    bursts = rng.random() < 0.3
    deadly = rng.random() < 0.15
    for number in range(rng.choice((4, 8, 15, 15, 30, 60))):
        models: tuple[str, ...] = (rng.choice(served),)
        if rng.random() < 0.1:
            models = (rng.choice((*_MODELS, "nobody")), models[0])
        stream = rng.random() < 0.8
        asks.append(
            Ask(
                number,
                _moment(rng, busy_s, bursts=bursts),
                rng.randrange(len(routers)),
                models,
                rng.choice((20, 200, 2000, 20_000)),
                rng.choice((1, 10, 50, 150)),
                rng.choice("abc"),
                frozenset({rng.choice(jurisdictions)}) if rng.random() < 0.15 else None,
                rng.choice(boxes).spec.region.name if rng.random() < 0.07 else None,
                rng.choice(boxes).spec.name if rng.random() < 0.03 else None,
                rng.choice("xy") if rng.random() < 0.1 else None,
                rng.choice((Priority.STANDARD, Priority.STANDARD, Priority.INTERACTIVE, Priority.BATCH)),
                rng.choice((0.5, 5.0)) if rng.random() < 0.1 else float("inf"),
                rng.uniform(0.0, 4.0) if rng.random() < 0.1 else float("inf"),
                stream,
                rng.choice((Continues.NO, Continues.TEXT, Continues.TEXT, Continues.IDS)) if stream else Continues.NO,
                rng.random() < 0.03,
                deadly and rng.random() < 0.1,
            )
        )
    return sorted(asks, key=lambda ask: ask.at_s)


def _moment(rng: random.Random, busy_s: float, *, bursts: bool) -> float:
    if bursts and rng.random() < 0.6:
        return rng.choice((1.0, 3.0)) + rng.random() * 0.2
    return rng.uniform(0.0, busy_s)
