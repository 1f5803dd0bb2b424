"""Makes a failing scenario smaller: fewer troubles and fewer requests, as long as the same rule is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.seeds.play import Play
from sim.seeds.rules import Broken
from sim.seeds.scenario import Scenario, part_of


def broken_by(scenario: Scenario) -> Broken | None:
    """The rule that this scenario breaks, None if it keeps all."""
    try:
        Play(scenario).run()
    except Broken as broken:
        return broken
    return None


def shrink(scenario: Scenario, rule: str) -> Scenario:
    """A part of ``scenario`` that breaks ``rule`` as the whole does, from which nothing single can be left out."""

    def fails(asks: Sequence[int], troubles: Sequence[int]) -> bool:
        broken = broken_by(part_of(scenario, asks, troubles))
        return broken is not None and broken.rule == rule

    asks = [ask.number for ask in scenario.asks]
    troubles = [trouble.number for trouble in scenario.troubles]
    while True:
        before = len(asks) + len(troubles)
        troubles = _fewer(troubles, lambda kept: fails(asks, kept))  # noqa: B023 (called at once)
        asks = _fewer(asks, lambda kept: fails(kept, troubles))  # noqa: B023
        if len(asks) + len(troubles) == before:
            return part_of(scenario, asks, troubles)


def _fewer(numbers: list[int], fails: Callable[[list[int]], bool]) -> list[int]:
    """Leave out what can be left out: first half of them at a time, then less and less."""
    size = max(1, len(numbers) // 2)
    while True:
        place = 0
        while place < len(numbers):
            kept = numbers[:place] + numbers[place + size :]
            if fails(kept):
                numbers = kept
            else:
                place += size
        if size == 1:
            return numbers
        size = max(1, size // 2)
