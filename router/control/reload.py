"""The configuration in force: replaced whole, or not at all.

A reload parses, checks, compares and swaps; on any problem the old configuration stays. It is asked for by SIGHUP, by
the admin API, or by a change of the file or of a certificate that it names.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from router import clock, signals
from router.config import Config, diff, load, parse, pending, warnings
from router.config.certificates import certificate_files
from router.errors import ConfigError
from router.tasks import spawn, stop, supervise
from router.telemetry.history import Note, say_nothing
from router.words import plural

_log = logging.getLogger("router.control")

_POLL_S = 0.5
#: A file that is still being written keeps changing for this long at most.
_SETTLE_S = 0.1

#: Puts the second configuration in force in place of the first. Within one process it does so without an await, so that
#: no request sees half of a change.
Applier = Callable[[Config, Config], Awaitable[None] | None]
#: Reads again what the configuration only names, e.g. certificates. Raises ConfigError.
Renewer = Callable[[], Awaitable[None] | None]

#: Of each file: mtime in ns, size, inode; None while there is none.
_Signature = tuple[tuple[int, int, int] | None, ...]


def _as_it_is(config: Config) -> Config:
    return config


@dataclass(frozen=True, slots=True)
class Reloaded:
    changed: bool
    generation: int
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """The effect of a text in place of the file. ``pending``: the part that would wait for the next start."""

    config: Config
    generation: int  # that the changes were compared with
    changes: tuple[str, ...]
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The last attempt at a reload that failed."""

    at_s: float  # wall clock
    problems: tuple[str, ...]


class ConfigReloader:
    """Owns the configuration in force.

    ``appliers`` are called in order; if one raises, the old configuration is applied again to all that were called.
    ``renew`` is called at every reload, also when the file says what it said before. ``complete`` adds what the file
    does not know; it may raise ConfigError. A reload goes on inside ``reloading()``.
    """

    def __init__(
        self,
        config: Config,
        appliers: Sequence[Applier],
        *,
        announce: Callable[[int], None] | None = None,
        renew: Renewer | None = None,
        complete: Callable[[Config], Config] = _as_it_is,
        reloading: Callable[[], AbstractContextManager[None]] = nullcontext,
        poll_s: float = _POLL_S,
    ) -> None:
        self.config = self._started = config
        self.generation = 1
        self.loaded_s = self.tried_s = clock.wall_s()
        self.refused: Refused | None = None
        #: called after each attempt that may have changed ``refused``
        self.judged: Callable[[], object] = lambda: None
        self._appliers = tuple(appliers)
        self._tell = announce
        self._renew = renew
        self._complete = complete
        self._reloading = reloading
        self._poll_s = poll_s
        self._seen = _signature(config)
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._hangups = False
        self.note: Note = say_nothing

    def start(self, *, hangups: bool = True) -> None:
        """Watch the file and, with ``hangups``, SIGHUP."""
        self._task = supervise(self._watch, name="config watch")
        self._hangups = hangups
        if hangups:
            signals.on(signal.SIGHUP, act=self._hang_up)

    @property
    def watching(self) -> bool:
        """It reads the file itself, and is not told by another process what it says."""
        return self._task is not None

    async def stop(self) -> None:
        if self._hangups:
            signals.ignore(signal.SIGHUP)
        await stop(self._task)

    async def reload(self, why: str, *, who: str | None = None) -> Reloaded:
        """Read the file again. Raises ConfigError with all problems; the old configuration then stays in force."""
        before = f"generation {self.generation}"
        async with self._lock:
            refused = self.refused is not None
            with self._reloading():
                try:
                    result = await self._read_again(why)
                except ConfigError as exc:
                    told = f"{why}: {'; '.join(exc.problems)}"
                    self.note("config", self.config.source, before=before, after="refused", why=told, who=who)
                    raise
        if result.changed:
            after, told = f"generation {result.generation}", f"{why}: {'; '.join(result.changes)}"
            self.note("config", self.config.source, before=before, after=after, why=told, who=who)
        elif refused:
            told = f"{why}: the file says again what is in force"
            self.note("config", self.config.source, before="refused", after=before, why=told, who=who)
        return result

    async def check(self, text: str, name: str | None = None) -> Checked:
        """The effect of a reload if the file held ``text``. Raises ConfigError with all problems, as of a file of this
        ``name``."""
        source = self.config.source
        try:
            new = self._complete(await asyncio.to_thread(parse, text, source, whole=True))
            _refuse_losses(self.config, new)
        except ConfigError as error:
            here, there = f"{source}:", f"{name or source}:"
            problems = [p.replace(here, there, 1) if p.startswith(here) else p for p in error.problems]
            raise ConfigError(name or source, problems) from None
        changes, later = diff(self.config, new, started=self._started), pending(self._started, new)
        return Checked(new, self.generation, tuple(changes), tuple(later))

    @property
    def pending(self) -> list[str]:
        """Settings of the file that this process follows only after its next start."""
        return pending(self._started, self.config)

    async def _read_again(self, why: str) -> Reloaded:
        self._seen = _signature(self.config)
        self.tried_s = clock.wall_s()
        try:
            _refuse_no_file(self.config.source)
            new = self._complete(await asyncio.to_thread(load, self.config.source))
            _refuse_losses(self.config, new)
            changes = diff(self.config, new, started=self._started)
            await _call(self._renew)
            if changes:
                await self._swap(new, self.generation + 1)
        except ConfigError as exc:
            self.refused = Refused(clock.wall_s(), tuple(exc.problems))
            for problem in exc.problems:
                _log.error("configuration refused (%s), generation %d stays: %s", why, self.generation, problem)
            self.judged()
            raise
        self.refused = None
        self.judged()
        if changes:
            self._announce(why, changes)
        return Reloaded(bool(changes), self.generation, tuple(changes))

    async def adopt(self, new: Config, generation: int) -> None:
        """Put in force what another process has read and checked. Raises ConfigError; the old one then stays."""
        async with self._lock:
            await _call(self._renew)
            if (new, generation) != (self.config, self.generation):
                await self._swap(new, generation)

    async def _swap(self, new: Config, generation: int) -> None:
        old = self.config
        done: list[Applier] = []
        try:
            for apply in self._appliers:
                done.append(apply)
                if (work := apply(old, new)) is not None:
                    await work
        except Exception as exc:
            _log.exception("the configuration cannot be put in force")
            for apply in reversed(done):
                await _take_back(apply, old, new)
            if isinstance(exc, ConfigError):
                raise
            text = f"{new.source}: cannot be put in force: {type(exc).__name__}: {exc}"
            raise ConfigError(new.source, [text]) from exc
        self.config = new
        self._seen = (*self._seen[:1], *_signature(new)[1:])
        self.generation = generation
        self.loaded_s = clock.wall_s()
        if self._tell is not None:
            self._tell(self.generation)

    def _announce(self, why: str, changes: list[str]) -> None:
        _log.info("configuration generation %d in force (%s), %s", self.generation, why, plural(len(changes), "change"))
        for change in changes:
            _log.info("configuration: %s", change)
        for warning in warnings(self.config):
            _log.warning("configuration: %s", warning)

    def _hang_up(self) -> None:
        spawn(self._reload_quietly("SIGHUP"), name="config reload")

    async def _reload_quietly(self, why: str) -> None:
        """A reload nobody waits for: problems are in the log."""
        try:
            await self.reload(why)
        except ConfigError:
            return
        except Exception:
            _log.exception("the reload failed; generation %d stays", self.generation)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            now = _signature(self.config)
            if now == self._seen:
                continue
            await asyncio.sleep(_SETTLE_S)
            if _signature(self.config) == now:
                why = "file changed" if now[0] != self._seen[0] else "certificate changed"
                self._seen = now
                await self._reload_quietly(why)


async def _call(renew: Renewer | None) -> None:
    if renew is not None and (work := renew()) is not None:
        await work


async def _take_back(apply: Applier, old: Config, new: Config) -> None:
    try:
        if (work := apply(new, old)) is not None:
            await work
    except Exception:
        _log.exception("the old configuration cannot be put back everywhere: restart the router")


def _refuse_no_file(source: str) -> None:
    """Reading anything but a file might never end: a pipe that nobody writes to, a device. Whether there is one at all
    is found out by reading it."""
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(source).st_mode):
            raise ConfigError(source, [f"{source}: is not a file"])


def _refuse_losses(old: Config, new: Config) -> None:
    """A file that was cut off can be good TOML. Losing some regions may be meant; losing all never is.

    The plan default is always there: gone from the file, it would let its keys go where they may not.
    """
    problems = []
    if (old.backends or old.sources) and not (new.backends or new.sources):
        problems.append("would remove every backend; restart the router if that is meant")
    if old.plans["default"].residency and not new.plans["default"].written:
        problems.append("would lose the residency of [plans.default]; write that table without one if that is meant")
    if problems:
        raise ConfigError(new.source, [f"{new.source}: {problem}" for problem in problems])


def _signature(config: Config) -> _Signature:
    """Changes whenever the file or a certificate does."""
    return tuple(_signature_of(path) for path in (config.source, *certificate_files(config)))


def _signature_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
