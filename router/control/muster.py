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
        sources.changed = self.follow

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
        _log_changes(before, call)

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


def _log_changes(before: RollCall, call: RollCall) -> None:
    known, now = {s.name: s for s in before.specs}, {s.name: s for s in call.specs}
    for name, spec in now.items():
        if known.get(name) != spec:
            _log.info("%s is at %s, says %s", name, spec.url, call.origins[name].source)
    for name in known.keys() - now.keys():
        _log.info("%s is gone, says %s", name, before.origins[name].source)
