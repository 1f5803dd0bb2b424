"""The roll: every backend that the file and other sources name, as one list, and who of them goes away.

A source tells all that it sees, each time. The roll believes it with these reservations:

- A backend that is named no more goes away like one that gives notice: no new requests, and it is struck off when its
  requests have ended or its time is over.
- A source that is away tells nothing, which changes nothing. One that suddenly names nobody who is ready is believed
  only after its grace time: until then those that were ready stay as they were. A backend that is said to end is
  believed to.
- A backend that was never ready is not on the roll, so that nothing is held against it when it is.

The file comes first, then the sources in their order. A name or an address is on the roll once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from router.core.leaving import Notice
from router.core.types import BackendSpec, RegionSpec

#: The source of what the file names itself.
FILE = "file"
#: Times that are told again and again differ a little each time.
_SAME_S = 1.0


class Leaves(NamedTuple):
    """It goes away at ``until_s``, says ``by``."""

    until_s: float
    by: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """One backend as a source sees it. ``facts`` are for people: what the source says besides."""

    spec: BackendSpec
    ready: bool = True
    leaves: Leaves | None = None
    facts: tuple[tuple[str, str], ...] = ()


class Terms(NamedTuple):
    """How far a source is believed. ``linger_s``: the time that a backend has to go when it is named no more."""

    grace_s: float = 30.0
    linger_s: float = 30.0


class Origin(NamedTuple):
    """Where a backend on the roll comes from, and what its source says of it. ``since_s``: when it came on the roll.
    ``listed``: its source names it still."""

    source: str
    ready: bool = True
    listed: bool = True
    facts: tuple[tuple[str, str], ...] = ()
    since_s: float = float("-inf")


@dataclass(frozen=True, slots=True)
class RollCall:
    """The roll at one moment. ``left_out``: what a source names and the roll does not, and why."""

    specs: tuple[BackendSpec, ...] = ()
    notices: Mapping[str, Notice] = field(default_factory=dict)
    unready: frozenset[str] = frozenset()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(slots=True)
class _Member:
    sighting: Sighting
    since_s: float
    notice: Notice | None = None
    listed: bool = True

    @property
    def in_use(self) -> bool:
        return self.listed and self.sighting.ready and self.notice is None

    def see(self, sighting: Sighting, now_s: float) -> None:
        self.sighting, self.listed = sighting, True
        self.notice = _notice(self.notice, sighting.leaves, now_s)


class _Source:
    """The latest word of one source, and the backends that are on the roll because of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.terms = Terms()
        self.heard: dict[str, Sighting] | None = None
        self.members: dict[str, _Member] = {}
        #: since when it names nobody who is ready, and is not believed
        self.empty_since_s: float | None = None

    def settle(self, busy: Callable[[str], bool], now_s: float) -> None:
        """Bring the members in line with what was heard and with the time."""
        if self.heard is None:
            return
        doubted = self._doubted(self.heard, now_s)
        for name, member in list(self.members.items()):
            sighting = self.heard.get(name)
            if doubted and member.in_use and not (sighting and sighting.leaves):
                continue
            if sighting is not None:
                member.see(sighting, now_s)
            elif self._gone(member, busy(name), now_s):
                del self.members[name]
        for name, sighting in self.heard.items():
            if name not in self.members and sighting.ready and sighting.leaves is None:
                self.members[name] = _Member(sighting, now_s)

    def _doubted(self, heard: Mapping[str, Sighting], now_s: float) -> bool:
        """It names nobody who is ready, names do not end by its own word, and its grace time is not over."""
        lost = any(m.in_use and not ((s := heard.get(name)) and s.leaves) for name, m in self.members.items())
        if not lost or any(s.ready and s.leaves is None for s in heard.values()):
            self.empty_since_s = None
            return False
        if self.empty_since_s is None:
            self.empty_since_s = now_s
        return now_s < self.empty_since_s + self.terms.grace_s

    def _gone(self, member: _Member, busy: bool, now_s: float) -> bool:
        """It is named no more. Returns whether it can be struck off."""
        if member.listed:
            member.listed = False
            if member.notice is None:
                member.notice = Notice(now_s, now_s + self.terms.linger_s, f"{self.name}: it is listed no more")
        assert member.notice is not None
        return not busy or now_s >= max(member.notice.until_s, member.notice.since_s + self.terms.linger_s)

    @property
    def waiting(self) -> bool:
        """Something may change though nobody tells anything."""
        return self.empty_since_s is not None or any(not m.listed for m in self.members.values())


class Roll:
    """``tell`` what sources say, ``stand`` to see what follows. ``share`` makes a backend's ``max_inflight`` that of
    this process, where several share it."""

    def __init__(self, *, share: Callable[[int], int] = lambda most: most) -> None:
        self._share = share
        self._fixed: tuple[BackendSpec, ...] = ()
        self._regions: dict[str, RegionSpec] = {}
        self._sources: dict[str, _Source] = {}
        self._warned: dict[str, Notice] = {}

    def configure(
        self, fixed: Sequence[BackendSpec], sources: Mapping[str, Terms], regions: Iterable[RegionSpec]
    ) -> None:
        """``fixed``: what the file names. A source that is not named any more takes its backends with it at once, and
        so does a region. The earlier words of a source hold in the regions as they are now."""
        self._fixed = tuple(fixed)
        self._regions = {region.name: region for region in regions}
        self._sources = {name: self._sources.get(name) or _Source(name) for name in sources}
        for name, terms in sources.items():
            self._sources[name].terms = terms

    def tell(self, source: str, sightings: Iterable[Sighting]) -> None:
        """All that a source sees now. Of two sightings of one name the one that is ready holds. A source that is not
        configured any more says nothing."""
        if source not in self._sources:
            return
        heard: dict[str, Sighting] = {}
        for sighting in sightings:
            name, spec = sighting.spec.name, sighting.spec
            if name in heard and not _better(sighting, heard[name]):
                continue
            heard[name] = replace(sighting, spec=replace(spec, max_inflight=self._share(spec.max_inflight)))
        self._sources[source].heard = heard

    def heard_from(self, source: str) -> bool:
        known = self._sources.get(source)
        return known is not None and known.heard is not None

    def counts(self, source: str) -> tuple[int, int]:
        """(backends on the roll because of ``source``, those of them that are in use)."""
        members = self._sources[source].members.values() if source in self._sources else ()
        return len(members), sum(m.in_use for m in members)

    def doubted_since_s(self, source: str) -> float | None:
        """Since when a source names nobody who is ready and is not believed."""
        known = self._sources.get(source)
        return known.empty_since_s if known is not None else None

    def warn(self, name: str, leaves: Leaves | None, now_s: float) -> None:
        """Somebody beside its source knows that a backend goes away, or that it does not any more."""
        notice = _notice(self._warned.pop(name, None), leaves, now_s)
        if notice is not None:
            self._warned[name] = notice

    @property
    def waiting(self) -> bool:
        """Something may change though nobody tells anything: stand again soon."""
        return any(source.waiting for source in self._sources.values())

    def stand(self, busy: Callable[[str], bool], now_s: float) -> RollCall:
        """``busy``: whether a backend has requests in flight."""
        for known in self._sources.values():
            known.settle(busy, now_s)
        names: dict[str, str] = {spec.name: FILE for spec in self._fixed}
        urls: dict[str, str] = {spec.url: spec.name for spec in self._fixed}
        origins = {spec.name: Origin(FILE) for spec in self._fixed}
        left_out: list[str] = []
        chosen: dict[str, _Member] = {}
        for source, name, member in self._by_use():
            if member.sighting.spec.region.name not in self._regions:
                continue
            url = member.sighting.spec.url
            if name in names:
                left_out.append(f"{name} of {source} has the name of a backend of {names[name]}")
            elif url in urls:
                left_out.append(f"{name} of {source} has the address of {urls[url]}")
            else:
                names[name], urls[url], chosen[name] = source, name, member
        specs, notices, unready = list(self._fixed), dict[str, Notice](), set[str]()
        for known in self._sources.values():
            for name in sorted(known.members):
                if names.get(name) != known.name or name not in chosen:
                    continue
                member = chosen[name]
                sighting = member.sighting
                origins[name] = Origin(known.name, sighting.ready, member.listed, sighting.facts, member.since_s)
                specs.append(replace(sighting.spec, region=self._regions[sighting.spec.region.name]))
                if member.notice is not None:
                    notices[name] = member.notice
                elif not sighting.ready:
                    unready.add(name)
        for name, notice in self._warned.items():
            if name in names and (name not in notices or notice.until_s < notices[name].until_s):
                notices[name] = notice
                unready.discard(name)
        return RollCall(tuple(specs), notices, frozenset(unready), origins, tuple(left_out))

    def _by_use(self) -> Iterator[tuple[str, str, _Member]]:
        """Those in use before those that go: an address that moves from one source to another is in use."""
        for in_use in (True, False):
            for source in self._sources.values():
                for name in sorted(source.members):
                    member = source.members[name]
                    if member.in_use is in_use:
                        yield source.name, name, member


def _better(new: Sighting, old: Sighting) -> bool:
    return (new.leaves is None, new.ready) > (old.leaves is None, old.ready)


def _notice(before: Notice | None, leaves: Leaves | None, now_s: float) -> Notice | None:
    """The notice that follows from what is told now. Telling it again gives no more time: the sooner end holds."""
    if leaves is None:
        return None
    if before is None:
        return Notice(now_s, max(now_s, leaves.until_s), leaves.by)
    if before.until_s <= leaves.until_s + _SAME_S:
        return before
    return Notice(before.since_s, leaves.until_s, leaves.by)


def added(before: Collection[str], call: RollCall) -> frozenset[str]:
    """The names of backends that other sources than the file have brought since."""
    return frozenset(name for name, origin in call.origins.items() if origin.source != FILE and name not in before)
