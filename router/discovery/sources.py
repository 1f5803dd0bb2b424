"""The sources of backends: one task for each follows it and tells the roll what it sees.

``changed`` is called when the roll may differ from what is in force: at once after a pause, else soon, so that many
changes in a row are taken together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from router import clock
from router.complaint import Complaint
from router.config import Config, Source
from router.core.roll import FILE, Leaves, Roll, RollCall, Sighting, Terms
from router.discovery.dns import follow_name
from router.discovery.kubernetes import follow_cluster
from router.discovery.spot import Spot
from router.tasks import stop, supervise

_log = logging.getLogger("router.discovery")

#: The source of backends that register themselves over the admin API.
REGISTERED = "registered"
#: Changes within this time are taken together.
_TOGETHER_S = 0.05
#: How often the roll is looked at while time alone may change it.
_TICK_S = 0.25


class Following(NamedTuple):
    """The voice of a follower: all that it sees, why it sees nothing, and what of it is wrong."""

    source: Source
    tell: Callable[[Sequence[Sighting]], None]
    fail: Callable[[str], None]
    remark: Callable[[Sequence[str]], None]


#: Follows a source until it is cancelled.
FOLLOWERS: dict[str, Callable[[Following], Any]] = {
    "dns": follow_name,
    "srv": follow_name,
    "kubernetes": follow_cluster,
}


@dataclass(slots=True)
class SourceReport:
    """How a source is. ``heard_s``: when it was last heard, None: never. ``problem``: why it is not heard now.
    ``remarks``: what is wrong with some of what it says."""

    kind: str
    region: str | None = None
    heard_s: float | None = None
    problem: str | None = None
    remarks: tuple[str, ...] = ()


class Sources:
    """``busy``: whether a backend has requests in flight. ``share``: see Roll."""

    def __init__(self, *, busy: Callable[[str], bool], share: Callable[[int], int] = lambda most: most) -> None:
        self.roll = Roll(share=share)
        self.changed: Callable[[], None] = lambda: None
        #: (source, before, after, why): how a source is has changed
        self.told: Callable[[str, str | None, str, str], None] = lambda *_: None
        self.config = Config()
        self.reports: dict[str, SourceReport] = {}
        #: what is on the roll now
        self.call = RollCall()
        self._busy = busy
        self._spot = Spot(self._warn)
        self._wanted: dict[str, Source] = {}
        self._following: dict[str, tuple[Source, asyncio.Task[None]]] = {}
        self._complaints: dict[str, Complaint] = {}
        self._running = False
        self._ticking: asyncio.Task[None] | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._settled_s = float("-inf")
        self._doubted: set[str] = set()

    def reload(self, config: Config) -> None:
        """Follow the sources of ``config``; those that did not change are followed on undisturbed."""
        self._wanted = {source.name: source for source in config.sources}
        terms = {source.name: Terms(source.grace, source.leaves_in) for source in config.sources}
        self.config = config
        self.roll.configure(config.backends, terms | {REGISTERED: Terms()}, (r.spec for r in config.regions))
        self.reports = {
            FILE: SourceReport(FILE),
            REGISTERED: self.reports.get(REGISTERED) or SourceReport(REGISTERED),
        } | {name: self._report(source) for name, source in self._wanted.items()}
        if self._running:
            self._follow()

    def _report(self, source: Source) -> SourceReport:
        known, followed = self.reports.get(source.name), self._following.get(source.name)
        if known is not None and followed is not None and followed[0] == source:
            return known
        return SourceReport(source.kind, source.region.name)

    async def start(self) -> None:
        self._running = True
        self._follow()
        self._spot.start()
        self._ticking = supervise(self._tick, name="roll of backends")

    async def stop(self) -> None:
        self._running = False
        if self._soon is not None:
            self._soon.cancel()
        await stop(self._ticking, *(task for _, task in self._following.values()))
        self._following.clear()
        await self._spot.stop()

    @property
    def heard(self) -> bool:
        """Has every source been heard, or said why it is not?"""
        return all(r.heard_s is not None or r.problem is not None for n, r in self.reports.items() if n in self._wanted)

    def unheard(self, model: str, region: str | None) -> bool:
        """May a source that was never heard bring backends of ``model``, in this region or, None, in any?"""
        return any(
            self.reports[s.name].heard_s is None and region in (None, s.region.name) and model in (s.models or (model,))
            for s in self._wanted.values()
        )

    def stand(self) -> RollCall:
        """Call the roll."""
        before, self.call = self.call, self.roll.stand(self._busy, clock.monotonic_s())
        self._look_at_doubts()
        for text in self.call.left_out:
            if text not in before.left_out:
                _log.warning("left out: %s", text)
        self._spot.watch({spec.name: spec.notice_url for spec in self.call.specs if spec.notice_url is not None})
        return self.call

    def _look_at_doubts(self) -> None:
        doubted = {name for name in self.reports if self.roll.doubted_since_s(name) is not None}
        for name in sorted(doubted - self._doubted):
            grace_s = self._wanted[name].grace if name in self._wanted else Terms().grace_s
            self.told(name, "heard", "doubted", f"it names nobody who is ready; believed after {grace_s:g} s")
        for name in sorted(self._doubted - doubted):
            if name in self.reports:
                empty = not self.roll.counts(name)[1]
                self.told(name, "doubted", "heard", "it is believed" if empty else "it names somebody again")
        self._doubted = doubted

    def _warn(self, backend: str, leaves: Leaves | None) -> None:
        """The machine of a backend has spoken of its end."""
        self.roll.warn(backend, leaves, clock.monotonic_s())
        self._stir()

    def tell(self, source: str, sightings: Iterable[Sighting]) -> None:
        """All that a source sees now."""
        report = self.reports.get(source)
        if report is None:
            return
        if report.problem is not None:
            _log.info("the source %s is heard again", source)
            self.told(source, "away", "heard", "it answers again")
        report.heard_s, report.problem = clock.monotonic_s(), None
        self._complaints.pop(source, None)
        self.roll.tell(source, sightings)
        self._stir()

    def fail(self, source: str, problem: str) -> None:
        """A source cannot be heard: what it said holds."""
        report = self.reports.get(source)
        if report is None:
            return
        kept = self.roll.counts(source)[0]
        rest = f"; its {kept} backends stay" if kept else ""
        if report.problem is None:
            before = "heard" if report.heard_s is not None else None
            self.told(source, before, "away", f"{problem}{rest}")
        report.problem = problem
        complaint = self._complaints.setdefault(source, Complaint())
        if complaint.worth_a_line(problem, clock.monotonic_s()):
            _log.warning("the source %s cannot be heard: %s%s", source, problem, rest)

    def remark(self, source: str, remarks: Sequence[str]) -> None:
        """All that is wrong with what a source says now."""
        report = self.reports.get(source)
        if report is None:
            return
        for text in remarks:
            if text not in report.remarks:
                _log.warning("the source %s: %s", source, text)
        report.remarks = tuple(remarks)

    def _follow(self) -> None:
        for name, (source, task) in list(self._following.items()):
            if self._wanted.get(name) != source:
                task.cancel()
                del self._following[name]
        for name, source in self._wanted.items():
            if name not in self._following:
                following = Following(
                    source, partial(self.tell, name), partial(self.fail, name), partial(self.remark, name)
                )
                follow = FOLLOWERS[source.kind]
                task = supervise(partial(follow, following), name=f"source {name}")
                self._following[name] = (source, task)

    def _stir(self) -> None:
        if self._soon is None and self._running:
            loop = asyncio.get_running_loop()
            wait_s = max(0.0, self._settled_s + _TOGETHER_S - clock.monotonic_s())
            self._soon = loop.call_later(wait_s, self._settle)

    def _settle(self) -> None:
        self._soon = None
        self._settled_s = clock.monotonic_s()
        self.changed()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            if self.roll.waiting:
                self._settle_now()

    def _settle_now(self) -> None:
        if self._soon is None:
            self._settle()
