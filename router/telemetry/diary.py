"""The diary of a router: what it knows after a restart, also after a ``kill -9``.

Every few seconds, and off the path of requests, it writes down the minutes that are over and the events (in
``PATH.day``), and the latest requests and the minute that is not over (in ``PATH.recent``). Of each file there is one
older one, so that they are bounded. They are for the router's own user alone and hold no prompt and no secret. A router
reads the lines of its own name only. A router that is killed loses the last few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from asyncio import Task
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from router import clock
from router.tasks import stop, supervise
from router.telemetry.diary_lines import Found, event_line, minute_line, read, request_line
from router.telemetry.history import History, Occurrence
from router.telemetry.journal import Record, went_as_usual
from router.telemetry.minutes import KEPT_S, Rows
from router.telemetry.sink import Telemetry
from router.telemetry.writer import LineWriter, RotatingFile
from router.words import plural

_log = logging.getLogger("router.telemetry")

#: Of a file, before the next one is begun.
DAY_BYTES = 16 * 1024 * 1024
RECENT_BYTES = 8 * 1024 * 1024
_FILES = 2
_PAUSE_S = 5.0
#: In one turn: new requests that are looked at, those that are written, and decisions among these. The unusual first.
_LOOKED_AT = 2000
REQUESTS_MAX = 250
DECISIONS_MAX = 50
#: Requests that are recalled at the start.
RECALLED_MAX = 5000
#: Requests between two looks at the event loop.
_SLICE = 25
_MINUTE_S = 60


class Diary:
    """Raises OSError when its files cannot be opened."""

    def __init__(
        self,
        path: str,
        telemetry: Telemetry,
        history: History,
        *,
        now_s: Callable[[], float] = clock.monotonic_s,
        wall_s: Callable[[], float] = clock.wall_s,
    ) -> None:
        self._router = history.router
        self._telemetry = telemetry
        self._history = history
        self._wall_s = wall_s
        #: between the clocks, once: so all lines about a minute name the same moment
        self._offset_s = wall_s() - now_s()
        self._run = secrets.token_hex(4)
        self._paths = Path(f"{path}.day"), Path(f"{path}.recent")
        self._day, self._recent = (
            LineWriter(RotatingFile(str(file), file_bytes=most, files=_FILES), name="diary")
            for file, most in zip(self._paths, (DAY_BYTES, RECENT_BYTES), strict=True)
        )
        self._last_record: Record | None = None
        self._last_event = ""
        self._task: Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Diary {self._paths[0]}>"

    async def start(self) -> None:
        """Recall what was written down before, then write."""
        since_s, records = self._wall_s() - KEPT_S, min(self._telemetry.journal.size, RECALLED_MAX)
        self._recall(await asyncio.to_thread(read, self._lines(), self._router, records=records, since_s=since_s))
        self._task = supervise(self._loop, name="diary")

    async def stop(self) -> None:
        """Write down the rest."""
        await stop(self._task)
        await self.turn()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._day.close()
        self._recent.close()

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_S)
            await self.turn()

    # before

    def _lines(self) -> Iterator[bytes]:
        """Of all files, the older ones first."""
        for path in self._paths:
            for file in (path.with_name(f"{path.name}.1"), path):
                try:
                    with file.open("rb") as lines:
                        yield from lines
                except FileNotFoundError:
                    continue
                except OSError as error:
                    _log.warning("a part of the diary cannot be read: %s: %s", file, error.strerror)

    def _recall(self, found: Found) -> None:
        if found.unread:
            _log.warning("%s of the diary cannot be read", plural(found.unread, "line"))
        self._telemetry.journal.remember(found.records)
        self._history.take(found.events)
        minutes = [(round((at_s - self._offset_s) / _MINUTE_S), rows) for (_, at_s), rows in found.minutes.items()]
        self._telemetry.minutes.remember(minutes)
        for of in sorted(found.unfinished, key=lambda each: each[1]):
            self._day.put(minute_line(self._router, of, found.minutes[of], over=True))
        self._last_record = found.records[-1] if found.records else None
        self._last_event = found.events[-1].id if found.events else ""

    # now

    async def turn(self) -> None:
        """Write down what is new."""
        self._telemetry.flush()
        over, current = self._telemetry.minutes.news()
        for minute in over:
            self._day.put(self._minute_line(minute, over=True))
            await asyncio.sleep(0)
        if current[1]:
            self._recent.put(self._minute_line(current, over=False))
        if events := self._new_events():
            self._last_event = events[-1].id
            self._day.put(b"".join(event_line(self._router, event) for event in events))
        await self._write_requests()

    def _minute_line(self, minute: tuple[int, Rows], *, over: bool) -> bytes:
        at_s = round(minute[0] * _MINUTE_S + self._offset_s)
        return minute_line(self._router, (self._run, at_s), minute[1], over=over)

    def _new_events(self) -> list[Occurrence]:
        """Of this router, oldest first."""
        found: list[Occurrence] = []
        for event in self._history.newest_first():
            if event.id == self._last_event:
                break
            if event.router == self._router:
                found.append(event)
        return found[::-1]

    async def _write_requests(self) -> None:
        chosen, explained = self._new_requests()
        for start in range(0, len(chosen), _SLICE):
            part = chosen[start : start + _SLICE]
            self._recent.put(b"".join(request_line(self._router, r, decision=id(r) in explained) for r in part))
            await asyncio.sleep(0)

    def _new_requests(self) -> tuple[list[Record], set[int]]:
        """New requests to write down, oldest first, and those of them that keep their decisions."""
        new: list[Record] = []
        for record in islice(self._telemetry.journal.newest_first(), _LOOKED_AT):
            if record is self._last_record:
                break
            new.append(record)
        if new:
            self._last_record = new[0]
        ranked = sorted(new, key=went_as_usual)  # stable: the newest stay first
        chosen = ranked[:REQUESTS_MAX]
        explained = {id(record) for record in chosen[:DECISIONS_MAX]}
        if len(new) > REQUESTS_MAX:
            kept = {id(record) for record in chosen}
            new = [record for record in new if id(record) in kept]
        return new[::-1], explained
