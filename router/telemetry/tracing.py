"""Which requests are traced, and which of these are exported; ``trace_export`` sends them.

A request costs nothing here while ``on`` is false. While it is true, each gets its ids when it begins; all else is done
after it has ended, in batches. Traces that begin here are sampled by a share of their ids; failures and slow requests
are kept whatever the share. A client that has a trace of its own decides for it, by its flag.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from random import Random

from router.config import TracingSection
from router.telemetry.journal import Record
from router.telemetry.metrics import DROPPED, GaugeSample
from router.telemetry.stats import is_error
from router.telemetry.traces import ClientSpan, Trace

#: Requests that wait to be exported. More are dropped, and counted.
QUEUE_MAX = 4096
BATCH_MAX = 256


class Tracing:
    """``news`` is set when a batch waits or the section has changed. ``sent`` and ``dropped`` count spans, the latter
    by reason."""

    def __init__(self, rng: Random | None = None) -> None:
        self._rng = rng or Random()
        self.section = TracingSection()
        self.on = False
        self.queue: deque[Record] = deque()
        self.news = asyncio.Event()
        self.sent = 0
        self.dropped: dict[str, int] = {}

    def apply(self, section: TracingSection) -> None:
        """Go by this section from now on."""
        self.section = section
        self.on = section.collector is not None
        self.news.set()

    def begin(self, parent: ClientSpan | None) -> Trace:
        """A request begins. ``parent``: what its client says."""
        return Trace(parent, self._rng, share=self.section.sample)

    def offer(self, records: Iterable[Record]) -> None:
        """These have ended."""
        for record in records:
            if record.trace is not None and self._kept(record, record.trace):
                if len(self.queue) >= QUEUE_MAX:
                    self.drop("queue_full", 1 + len(record.attempts))
                else:
                    self.queue.append(record)
                    record.trace.exported = True
        if len(self.queue) >= BATCH_MAX:
            self.news.set()

    def drop(self, reason: str, spans: int) -> None:
        if spans:
            self.dropped[reason] = self.dropped.get(reason, 0) + spans

    def _kept(self, record: Record, trace: Trace) -> bool:
        if trace.sampled:
            return True
        if trace.parent is not None:
            return False
        return is_error(record) or len(record.attempts) > 1 or self._slow(record)

    def _slow(self, record: Record) -> bool:
        """The first token of a stream, or a whole answer, came late."""
        return (record.duration_s if record.ttft_s is None else record.ttft_s) >= self.section.slow_s

    def samples(self) -> Iterator[GaugeSample]:
        if self.on or self.sent or self.dropped:
            yield GaugeSample("router_spans_sent_total", (), self.sent)
            for reason in DROPPED:
                yield GaugeSample("router_spans_dropped_total", (reason,), self.dropped.get(reason, 0))
