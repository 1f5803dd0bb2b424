"""Puts the roll in force: the backends on it are those that are asked, connected to and watched."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from router import clock
from router.complaint import Complaint
from router.config import Config
from router.core.fleet import Fleet
from router.core.roll import RollCall, added
from router.discovery.sources import Sources
from router.errors import ConfigError
from router.observe.observer import Observer
from router.telemetry.history import Note, say_nothing
from router.upstream.chaos import Chaos
from router.upstream.pool import Pools

_log = logging.getLogger("router.control")


class Muster:
    """``forget`` drops the series of backends that are gone. Backends that come while ``serving`` begin slowly."""

    def __init__(
        self,
        fleet: Fleet,
        pools: Pools,
        observer: Observer,
        chaos: Chaos,
        sources: Sources,
        *,
        forget: Callable[[Collection[str]], None],
    ) -> None:
        self.serving = False
        self._fleet = fleet
        self._pools = pools
        self._observer = observer
        self._chaos = chaos
        self._sources = sources
        self._forget = forget
        self._in_force = RollCall()
        self._config = Config()
        self._complaint = Complaint()
        self.note: Note = say_nothing
        sources.changed, sources.told = self.follow, self._source_told

    def apply(self, config: Config) -> None:
        """Put a configuration in force. Raises ConfigError."""
        self._config = config
        self._sources.reload(config)
        self._install(self._sources.stand())

    def follow(self) -> None:
        """Sources have seen something, or time has passed."""
        before, call = self._in_force, self._sources.stand()
        if call.specs == before.specs:
            self._fleet.set_sourced(call.notices, call.unready)
            return
        try:
            self._install(call)
        except ConfigError as error:
            if self._complaint.worth_a_line(text := "; ".join(error.problems), clock.monotonic_s()):
                _log.error("the backends that sources name cannot be used: %s", text)
            return
        self._tell_changes(before, call)

    def _install(self, call: RollCall) -> None:
        """Raises ConfigError; then nothing has changed."""
        self._pools.apply(call.specs)
        self._in_force = call
        before = tuple(self._fleet.backends)
        self._fleet.set_sourced(call.notices, call.unready)
        slowly = added(before, call) if self.serving and before else ()
        self._fleet.apply(call.specs, clock.monotonic_s(), slowly=slowly)
        self._chaos.arrange()
        self._observer.reload(self._config, call.specs)
        self._forget(set(before) - self._fleet.backends.keys())

    def _source_told(self, source: str, before: str | None, after: str, why: str) -> None:
        self.note("source", source, before=before, after=after, why=why, who=f"source {source}")

    def _tell_changes(self, before: RollCall, call: RollCall) -> None:
        known, now = {s.name: s for s in before.specs}, {s.name: s for s in call.specs}
        for name, spec in now.items():
            if (old := known.get(name)) == spec:
                continue
            source = call.origins[name].source
            _log.info("%s is at %s, says %s", name, spec.url, source)
            after = "added" if old is None else "changed"
            self.note("backend", name, after=after, why=f"it is at {spec.url}", who=f"source {source}")
        for name in sorted(known.keys() - now.keys()):
            source = before.origins[name].source
            _log.info("%s is gone, says %s", name, source)
            told = before.notices.get(name)
            why = told.by if told is not None and told.by else "it is named no more"
            self.note("backend", name, after="removed", why=why, who=f"source {source}")
