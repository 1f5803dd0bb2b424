"""Reads one engine's own metrics: how many requests it runs and holds, and how full its KV cache is.

A reading that fails is unknown, neither full nor empty: the fleet lets the last one age and counts on what this router
has in flight itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from router.complaint import Complaint
from router.core.fleet import Fleet
from router.core.traits import TRAITS
from router.core.types import BackendSpec, LoadSample
from router.observe.client import AskFailedError, EngineClient, Failure
from router.observe.engines import LoadReader, knows_load
from router.observe.exposition import PAGE_BYTES_MAX

_log = logging.getLogger("router.observe")

#: Scrapes that fail in a row before it is worth a line.
_FAILURES_TOLD = 3


class Scraper:
    """Scrapes one backend."""

    def __init__(
        self,
        spec: BackendSpec,
        key: str | None,
        fleet: Fleet,
        client: EngineClient,
        *,
        timeout_s: float,
        now_s: Callable[[], float],
    ) -> None:
        self._spec = spec
        self._key = key
        self._fleet = fleet
        self._client = client
        self._timeout_s = timeout_s
        self._now_s = now_s
        #: do its metrics stand still, on purpose?
        self.stale: Callable[[], bool] = lambda: False
        self._last: LoadSample | None = None
        self._complaint = Complaint()
        self._failures = 0  # in a row
        self.last_error: str | None = None

    @property
    def has_page(self) -> bool:
        """Does this kind of engine have metrics to scrape?"""
        return TRAITS[self._spec.engine].load is not None

    async def scrape(self) -> LoadSample | None:
        """Read once and tell the fleet."""
        sample: LoadSample | None = None
        self.last_error = None
        try:
            sample = self._last = await self._read_unless_stale()
            self._failures = 0
            worth_a_line = True
        except AskFailedError as exc:
            self.last_error = f"metrics: {exc}"
            self._failures += 1
            # When nobody is there the probe says so.
            gone = exc.failure in (Failure.REFUSED, Failure.UNREACHABLE)
            worth_a_line = not gone and self._failures >= _FAILURES_TOLD
        self._fleet.observe_load(self._spec.name, sample, self._now_s())
        if sample is not None and knows_load(sample):
            if self._complaint.settled():
                _log.info("the load metrics of backend %s are readable again", self._spec.name)
        elif worth_a_line:
            self._warn()
        return sample

    def _warn(self) -> None:
        why = self.last_error or f"its page is not that of {self._spec.engine}"
        if self._complaint.worth_a_line(why, self._now_s()):
            _log.warning(
                "no known load metric at backend %s (%s): only what this router sends there is counted",
                self._spec.name,
                why,
            )

    async def _read_unless_stale(self) -> LoadSample | None:
        """Metrics that stand still on purpose are read again and again as they were."""
        if self._last is not None and self.stale():
            return replace(self._last, at_s=self._now_s())
        return await self._read()

    async def _read(self) -> LoadSample | None:
        metrics = TRAITS[self._spec.engine].load
        assert metrics is not None
        reader = LoadReader(metrics)
        answer = await self._client.ask(
            self._spec,
            metrics.path,
            key=self._key,
            timeout_s=self._timeout_s,
            bytes_max=PAGE_BYTES_MAX,
            feed=reader.feed,
        )
        if answer.status != 200:
            self.last_error = f"metrics: status {answer.status}"
            return None
        return reader.sample(self._now_s())
