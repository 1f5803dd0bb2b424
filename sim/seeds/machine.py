"""An engine of a scenario: places, a queue, a pace, and what ails it. Much simpler than ``sim.engine``, and quick."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from router.core.types import LoadSample

if TYPE_CHECKING:
    from sim.seeds.scenario import Box
    from sim.seeds.story import Attempt


_SLOWEST = 50.0


class Machine:
    """The state of one box. ``Play`` moves it through time."""

    __slots__ = (
        "box",
        "cut_off",
        "deaths",
        "frozen",
        "ills",
        "life",
        "name",
        "old_sample",
        "parked",
        "region",
        "served",
        "slowness",
        "waiting",
    )

    def __init__(self, box: Box) -> None:
        self.box = box
        self.name = box.spec.name
        self.region = box.spec.region.name
        #: how many troubles keep it down, frozen, or without a network
        self.deaths = self.frozen = self.cut_off = 0
        #: a new process is another life: what was asked in an earlier one is lost
        self.life = 0
        #: how many times longer everything takes
        self.slowness = 1.0
        self.ills: list[str] = []
        self.served: set[Attempt] = set()
        self.waiting: deque[Attempt] = deque()
        #: came while it was frozen
        self.parked: list[tuple[str, Attempt]] = []
        self.old_sample: LoadSample | None = None

    @property
    def up(self) -> bool:
        return not self.deaths

    @property
    def well(self) -> bool:
        """Nothing ails it, as far as a request can tell."""
        return not (self.deaths or self.frozen or self.cut_off or self.ills or self.slowness > 1.0)

    @property
    def pace(self) -> float:
        """How many times longer it takes now. Troubles that meet multiply, up to a bound: what is begun at this pace
        goes on at it."""
        return min(self.slowness, _SLOWEST)

    def takes_probe(self) -> bool:
        return self.up and not self.frozen and "blind" not in self.ills

    def first_token_s(self, prompt_tokens: int) -> float:
        """How long the first token takes one that has a place."""
        box = self.box
        return (box.base_s + prompt_tokens * box.prompt_token_s) * self.pace * (1.0 + 0.02 * len(self.served))

    def sample(self, now_s: float) -> LoadSample | None:
        """Its metrics page, as a scrape finds it. None: no page."""
        if not self.up or self.frozen or "unscraped" in self.ills:
            return None
        running, waiting = float(len(self.served)), float(len(self.waiting))
        used = min(1.0, running / self.box.places)
        if "odd" in self.ills:
            return LoadSample(now_s, 1000.0, 1e6, 1.0, 0.0)
        if "stale" in self.ills:
            self.old_sample = self.old_sample or LoadSample(now_s, running, waiting, used, 1e5)
            old = self.old_sample
            return LoadSample(now_s, old.running, old.waiting, old.kv_ratio, old.kv_capacity_tokens)
        self.old_sample = None
        return LoadSample(now_s, running, waiting, used, 1e5)

    def forget(self) -> list[Attempt]:
        """The process has died. Returns whoever asked it."""
        asked = [*self.served, *self.waiting, *(attempt for _, attempt in self.parked)]
        self.served.clear()
        self.waiting.clear()
        self.parked.clear()
        self.life += 1
        return sorted(asked, key=lambda attempt: attempt.number)
