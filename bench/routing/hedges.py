"""The worth of hedges: the slowest first tokens with and without them, while one engine of twelve, or all, are ill.

``python -m bench.routing.hedges`` prints the table of docs/routing.md. Times are simulated: the same on every machine.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence

from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec
from sim.seeds.play import Play
from sim.seeds.scenario import Ask, Box, Scenario
from sim.seeds.troubles import Trouble

#: name -> (kind of trouble, where, how much, seconds)
CASES: dict[str, tuple[str, str, float, float] | None] = {
    "all well": None,
    "one frozen": ("freeze", "here/a", 0.0, 20.0),
    "one 10 times slower": ("slowness", "here/a", 10.0, 20.0),
    "all 5 times slower": ("slowness", "here", 5.0, 20.0),
}
#: what a configuration with ``[hedge]`` has by default
SHARE = 0.05
_WARM_S = 60.0
_SEEN_S = 20.0
_PER_S = 60.0
_LATE_S = 1.0


def scenario(case: str, policy: str, share: float, seed: int = 1) -> Scenario:
    """Twelve engines in one region, steady traffic, and a trouble after a minute."""
    rng = random.Random(f"hedges {seed}")
    region = RegionSpec("here", "us", (38.9, -77.0))
    boxes = tuple(
        Box(BackendSpec(f"here/{x}", region, f"http://{x}:8000", "vllm", ("big",)), 256, 0.08, 5e-5, 0.01)
        for x in "abcdefghijkl"
    )
    asks, at_s = [], 0.0
    while (at_s := at_s + rng.expovariate(_PER_S)) < _WARM_S + _SEEN_S:
        asks.append(Ask(len(asks), at_s, 0, ("big",), rng.choice((200, 800, 2000)), 100, f"tenant {len(asks) % 7}"))
    trouble = CASES[case]
    troubles = () if trouble is None else (Trouble(0, trouble[0], _WARM_S, trouble[3], trouble[1], trouble[2]),)
    return Scenario(
        seed,
        Params(),
        policy,
        0.0,
        boxes,
        (),
        ("here",),
        tuple(asks),
        troubles,
        _WARM_S + _SEEN_S,
        30.0,
        20.0,
        share,
        0.5,
    )


def measure(case: str, policy: str, share: float) -> dict[str, float]:
    """First tokens of the requests that came during the trouble, and hedges as a share of their attempts."""
    played = scenario(case, policy, share)
    play = Play(played).run()
    seen = [story for story in play.stories if _WARM_S <= story.ask.at_s < _WARM_S + _SEEN_S and not story.ask.last]
    ttfts = sorted(30.0 if story.ttft_s is None else story.ttft_s for story in seen)
    hedges = sum(story.hedged for story in seen)
    last, late = len(ttfts) - 1, sum(ttft_s > _LATE_S for ttft_s in ttfts) / len(ttfts)
    at = {"p50": ttfts[last // 2], "p99": ttfts[int(0.99 * last)], "max": ttfts[last], "late": late}
    return {**at, "hedges": hedges / max(1, len(seen) + hedges)}


def table(policies: Sequence[str]) -> str:
    lines = [
        "| | policy | p99 ms | with hedges | slowest ms | with hedges | later than 1 s | with hedges | hedges |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for case in CASES:
        for policy in policies:
            plain, hedged = measure(case, policy, 0.0), measure(case, policy, SHARE)
            times = " | ".join(f"{1000 * which[name]:.0f}" for name in ("p99", "max") for which in (plain, hedged))
            shares = " | ".join(f"{100 * share:.1f} %" for share in (plain["late"], hedged["late"], hedged["hedges"]))
            lines.append(f"| {case} | {policy} | {times} | {shares} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.routing.hedges", description=__doc__)
    parser.add_argument("--policies", nargs="+", default=["ttft", "round_robin"])
    print(table(parser.parse_args(arguments).policies))


if __name__ == "__main__":
    main()
