"""Telemetry: takes each finished request, in one call that costs very little.

The call puts the record into the journal's ring and a list. Ten times a second the list is folded into metrics and
statistics and written as log lines; that work is counted in microseconds a record and never waits for a disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import repeat

from router import clock
from router.telemetry.costs import Costs
from router.telemetry.counters import Metrics
from router.telemetry.journal import Journal, Record
from router.telemetry.kinds import kinds_of
from router.telemetry.logs import access_json, access_text
from router.telemetry.metrics import GaugeSample
from router.telemetry.minutes import Minutes
from router.telemetry.stats import Stats
from router.telemetry.tracing import Tracing
from router.telemetry.writer import LineWriter

_FLUSH_S = 0.1
#: This many records are folded at once, without waiting for the tick: a slow tick cannot pile up more, and the records
#: are still in the processor's cache.
_PENDING_MAX = 64
_LAG_WINDOW_S = 10.0


class Telemetry:
    """``journal``, ``metrics`` and ``stats`` may be read at any time; ``flush`` first to see the very last requests.

    ``access`` takes a line per request; None: no access log. ``generation`` of the configuration and the name of the
    ``router`` are in each line.
    """

    def __init__(
        self,
        journal: Journal,
        metrics: Metrics,
        stats: Stats,
        *,
        access: LineWriter | None = None,
        human: bool = False,
        router: str = "router",
        now_s: Callable[[], float] = clock.monotonic_s,
    ) -> None:
        self.journal = journal
        self.metrics = metrics
        self.stats = stats
        self.minutes = Minutes(now_s)
        self.tracing = Tracing()
        self.costs = Costs()
        self.generation = 1
        self._router = router
        self._access = access
        self._access_line = access_text if human else access_json
        self._now_s = now_s
        self._pending: list[Record] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._lags: deque[tuple[float, float]] = deque(maxlen=int(_LAG_WINDOW_S / _FLUSH_S))
        metrics.add_source(self._samples)

    def request_done(self, record: Record) -> None:
        """The request has ended; the record must not change any more."""
        self.journal.add(record)
        self._pending.append(record)
        if len(self._pending) >= _PENDING_MAX:
            self._flush(rush=True)

    def start(self) -> None:
        """Begin to flush regularly, on the running loop."""
        self._schedule(asyncio.get_running_loop())

    def stop(self) -> None:
        """Flush and stop. Writers belong to who made them: close them afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def flush(self) -> None:
        self._flush(rush=False)

    def _flush(self, *, rush: bool) -> None:
        records, self._pending = self._pending, []
        if not records:
            return
        kinds = kinds_of(records)
        if self.tracing.on:
            self.tracing.offer(records)
        for kind in dict.fromkeys(kinds):
            self.metrics.fold(kind)
            self.stats.fold(kind)
            self.minutes.fold(kind)
            self.costs.fold(kind)
        if self._access is not None:
            about = repeat(self.generation), repeat(self._router)
            self._access.put(b"".join(map(self._access_line, records, kinds, *about)))
        self.journal.settle(records, rush=rush)

    def loop_lag_s(self, rank: int = 1) -> float:
        """The longest the event loop came late within the last ten seconds; with ``rank`` 2 the second longest, and so
        on."""
        horizon_s = self._now_s() - _LAG_WINDOW_S
        lags = sorted((lag for at_s, lag in self._lags if at_s >= horizon_s), reverse=True)
        return lags[rank - 1] if len(lags) >= rank else 0.0

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = self._now_s() + _FLUSH_S
        self._timer = loop.call_later(_FLUSH_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = self._now_s()
        self._lags.append((now_s, max(0.0, now_s - self._due_s)))
        try:
            self.flush()
        finally:
            self._schedule(loop)

    def _samples(self) -> list[GaugeSample]:
        samples = [GaugeSample("router_loop_lag_seconds", (), self.loop_lag_s()), *self.tracing.samples()]
        if self._access is not None:
            samples.append(GaugeSample("router_log_lines_dropped_total", ("log",), self._access.dropped))
        if self.journal.file is not None:
            samples.append(GaugeSample("router_log_lines_dropped_total", ("journal",), self.journal.file.dropped))
        return samples
