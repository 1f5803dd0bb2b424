"""The counters and histograms of one process, and the page that Prometheus scrapes.

Requests are folded into plain counters in memory and written as text when somebody scrapes; gauges are read from their
sources at that moment. Both are done here and not by prometheus_client because the event loop waits meanwhile: with 64
backends and 4 models its writer takes 50 to 100 ms a page, this one 8, in pieces.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter

from prometheus_client import CollectorRegistry, ProcessCollector

from router.core.limits import MICRO
from router.telemetry.formats import Format, exemplar
from router.telemetry.gen_ai import GenAi
from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.kinds import RequestKind
from router.telemetry.labels import OTHER, Labels
from router.telemetry.metrics import DIRECTIONS, METRICS, REFUSED_BY_NOBODY, SPECS, GaugeSample, MetricSpec

_SERIES_MAX = 20_000
_SETTLE_EVERY = 256
#: Tenants that have a label of their own: a series each for every model.
_TENANTS_MAX = 200
Source = Callable[[], Iterable[GaugeSample]]

# Attributes of records, as functions: for many records at once they cost no step of the interpreter.
_duration_s, _wait_s, _cached_tokens, _attempts = map(attrgetter, ("duration_s", "wait_s", "cached_tokens", "attempts"))
_repetition = attrgetter("repetition")
_started_s, _first = attrgetter("started_s"), itemgetter(0)


class Histogram:
    """Counts per bucket, not cumulated. Values are noted as they come, and counted when there are many or somebody
    reads: sorted, a whole batch takes as many steps as there are buckets."""

    __slots__ = ("bounds", "counts", "exemplars", "noted", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.noted: list[float] = []
        self.exemplars: dict[int, tuple[str, float, float]] = {}  # by bucket: trace, value, moment

    def show(self, trace_id: str, value: float, at_s: float) -> None:
        """Keep the trace as the exemplar of its bucket."""
        self.exemplars[bisect_left(self.bounds, value)] = (trace_id, value, at_s)

    def note(self, values: list[float]) -> None:
        self.noted += values
        if len(self.noted) >= _SETTLE_EVERY:
            self.settle()

    def settle(self) -> None:
        """Count what was noted."""
        noted, counts = self.noted, self.counts
        if not noted:
            return
        noted.sort()
        before = 0
        for i, bound in enumerate(self.bounds):
            upto = bisect_right(noted, bound, before)
            counts[i] += upto - before
            before = upto
        counts[-1] += len(noted) - before
        self.total += sum(noted)
        noted.clear()


@dataclass(slots=True)
class _RequestCell:
    """The counters that one kind of request bumps, bound together so that a kind costs one lookup."""

    ttft: Histogram
    duration: Histogram
    itl: Histogram
    dispatch: Histogram
    wait: Histogram
    tokens: list[int]  # prompt, output, cached
    requests: int = 0


@dataclass(slots=True)
class _AttemptCell:
    error: Histogram
    attempts: int = 0


@dataclass(slots=True)
class _Series:
    """All children of the histograms and counters, by label values."""

    histograms: dict[str, dict[tuple[str, ...], Histogram]] = field(default_factory=dict)
    tokens: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    #: by model, region, backend, status and cause
    requests: dict[tuple[str, str, str, int, str], _RequestCell] = field(default_factory=dict)
    attempts: dict[tuple[str, str, str], _AttemptCell] = field(default_factory=dict)
    retries: dict[tuple[str, str, str], int] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)  # by reason
    repetitions: dict[tuple[str, str], int] = field(default_factory=dict)  # by model and what was done
    refusals: dict[tuple[str, str], int] = field(default_factory=dict)
    microusd: dict[tuple[str, str, str], int] = field(default_factory=dict)  # by model, region and tenant

    def histogram(self, name: str, labels: tuple[str, ...]) -> Histogram:
        children = self.histograms.setdefault(name, {})
        if (child := children.get(labels)) is None:
            child = children[labels] = Histogram(SPECS[name].buckets)
        return child


class Metrics:
    """The metrics of one process."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._series = _Series()
        self._gen_ai = GenAi(self._series.histogram)
        self._tenants: set[str] = set()  # that are labels
        self._sources: list[Source] = []
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def add_source(self, source: Source) -> None:
        """``source`` is asked for its samples at each scrape. It leaves out values that it does not know."""
        self._sources.append(source)

    def fold(self, kind: RequestKind) -> None:
        """Count finished requests of one kind."""
        series, records = self._series, kind.records
        model = kind.served_model or kind.model
        if model not in self._labels.known:
            model = self._labels.model(model)
        key = (model, kind.region, kind.backend, kind.status, kind.cause)
        cell = series.requests.get(key) or self._new_request_cell(key)
        cell.requests += len(records)
        cell.duration.note(list(map(_duration_s, records)))
        cell.ttft.note(kind.ttfts_s)
        itls_s: list[float] = []
        if kind.stream:
            pauses = [(r.duration_s - r.ttft_s, r.output_tokens - 1) for r in records if r.ttft_s is not None]
            itls_s = [max(0.0, pause_s) / number for pause_s, number in pauses if number > 0]
            cell.itl.note(itls_s)
            for action in filter(None, map(_repetition, records)):
                series.repetitions[model, action] = series.repetitions.get((model, action), 0) + 1
        asked = kind.model if kind.model in self._labels.known else self._labels.model(kind.model)
        first_tokens = self._gen_ai.fold(kind, asked or "", model, itls_s)
        for traced in filter(_traced, records) if kind.ttfts_s else ():
            _show(traced, cell.ttft, first_tokens)
        cell.wait.note(list(filter(None, map(_wait_s, records))))
        tokens = cell.tokens
        tokens[0] += kind.prompt_tokens
        tokens[1] += kind.output_tokens
        tokens[2] += sum(filter(None, map(_cached_tokens, records)))
        if kind.cost_usd:
            self._fold_cost(model, kind)
        if kind.attempts:
            firsts = list(map(_first, map(_attempts, records)))
            cell.dispatch.note(list(map(_started_s, firsts)))
        if kind.attempts == 1:
            self._fold_attempts(firsts)
        else:
            for record in records:
                for attempt in record.attempts:
                    self._fold_attempts([attempt])
        if kind.error is not None:
            for record in records:
                if record.not_continued is not None:
                    series.cuts[record.not_continued] = series.cuts.get(record.not_continued, 0) + 1
                if record.limit is not None:
                    refusal = record.limit, record.limit_scope or REFUSED_BY_NOBODY
                    series.refusals[refusal] = series.refusals.get(refusal, 0) + 1

    def _fold_cost(self, model: str, kind: RequestKind) -> None:
        tenants, tenant, spent = self._tenants, kind.tenant, self._series.microusd
        if tenant not in tenants and len(tenants) >= _TENANTS_MAX:
            tenant = OTHER
        tenants.add(tenant)
        spender = model, kind.region, tenant
        spent[spender] = spent.get(spender, 0) + round(kind.cost_usd * MICRO)

    def forget(self, backends: Iterable[str]) -> None:
        """Drop the series of backends that were removed."""
        gone = set(backends)
        series = self._series
        series.requests = {k: v for k, v in series.requests.items() if k[2] not in gone}
        series.attempts = {k: v for k, v in series.attempts.items() if k[1] not in gone}
        series.retries = {k: v for k, v in series.retries.items() if k[1] not in gone}
        for name, children in series.histograms.items():
            labels = SPECS[name].labels
            if "backend" in labels:
                at = labels.index("backend")
                series.histograms[name] = {k: v for k, v in children.items() if k[at] not in gone}

    def render(self, form: Format = Format.TEXT) -> Iterator[bytes]:
        """The page in pieces, one for each metric, so that the caller can let others run in between."""
        scalars: dict[str, list[GaugeSample]] = {}
        for samples in (self._counters(), *(source() for source in self._sources)):
            for sample in samples:
                scalars.setdefault(sample.name, []).append(sample)
        for spec in METRICS:
            if spec.kind == "histogram":
                lines = self._histogram_lines(spec, exemplars=form is Format.OPENMETRICS)
            else:
                found = scalars.get(spec.name, ())
                lines = [f"{spec.name}{_labels(spec.labels, s.labels)} {_number(s.value)}" for s in found]
            if lines:
                yield "\n".join([*form.heading(spec.name, spec.kind, spec.help), *lines, ""]).encode()
        yield form.foreign(self._process)

    def _histogram_lines(self, spec: MetricSpec, *, exemplars: bool) -> list[str]:
        """Children without any value have no lines."""
        lines: list[str] = []
        name = spec.name
        bounds = [f'le="{_number(bound)}"}}' for bound in (*spec.buckets, float("inf"))]
        for values, child in self._series.histograms.get(name, {}).items():
            child.settle()
            labels = _labels(spec.labels, values)
            start = f"{name}_bucket{labels[:-1]},"
            count = 0
            before = len(lines)
            shown = {n: exemplar(*found) for n, found in child.exemplars.items()} if exemplars else {}
            for number, (bound, here) in enumerate(zip(bounds, child.counts, strict=True)):
                count += here
                lines.append(f"{start}{bound} {count}{shown.get(number, '')}")
            if count:
                lines += (f"{name}_sum{labels} {_number(child.total)}", f"{name}_count{labels} {count}")
            else:
                del lines[before:]
        return lines

    def _counters(self) -> Iterator[GaugeSample]:
        series = self._series
        for reason, count in series.cuts.items():
            yield GaugeSample("router_streams_cut_total", (reason,), count)
        for repeated, count in series.repetitions.items():
            yield GaugeSample("router_repetitions_total", repeated, count)
        for (model, region, backend, status, cause), request in series.requests.items():
            yield GaugeSample("router_requests_total", (model, region, backend, str(status), cause), request.requests)
        for (model, region), counts in series.tokens.items():
            for direction, count in zip(DIRECTIONS, counts, strict=True):
                yield GaugeSample("router_tokens_total", (model, region, direction), count)
        for attempt_labels, attempt in series.attempts.items():
            yield GaugeSample("router_attempts_total", attempt_labels, attempt.attempts)
        for retry_labels, retries in series.retries.items():
            yield GaugeSample("router_retries_total", retry_labels, retries)
        for spender, microusd in series.microusd.items():
            yield GaugeSample("router_cost_usd_total", spender, microusd / MICRO)
        for refused_by, refusals in series.refusals.items():
            yield GaugeSample("router_quota_refusals_total", refused_by, refusals)

    def _fold_attempts(self, attempts: list[AttemptRecord]) -> None:
        """Count attempts at one backend that ended alike and were made for the same reason."""
        first = attempts[0]
        key = (first.region, first.backend, first.outcome)
        cell = self._series.attempts.get(key)
        if cell is None:
            error = self._series.histogram("router_ttft_prediction_error_seconds", key[:2])
            cell = self._series.attempts[key] = _AttemptCell(error)
        cell.attempts += len(attempts)
        cell.error.note(
            [
                abs(a.ttft_s - a.predicted_ttft_s)
                for a in attempts
                if a.ttft_s is not None and a.predicted_ttft_s is not None
            ]
        )
        if first.kind != "first":
            retry = (first.region, first.backend, first.kind)
            self._series.retries[retry] = self._series.retries.get(retry, 0) + len(attempts)

    def _new_request_cell(self, key: tuple[str, str, str, int, str]) -> _RequestCell:
        series = self._series
        if len(series.requests) >= _SERIES_MAX:
            key = (OTHER, key[1], key[2], key[3], key[4])
            if (cell := series.requests.get(key)) is not None:
                return cell
        model, region, backend = key[:3]
        cell = series.requests[key] = _RequestCell(
            ttft=series.histogram("router_ttft_seconds", (model, region, backend)),
            duration=series.histogram("router_request_duration_seconds", (model, region)),
            itl=series.histogram("router_itl_seconds", (model, region)),
            dispatch=series.histogram("router_dispatch_seconds", (model,)),
            wait=series.histogram("router_queue_wait_seconds", (model,)),
            tokens=series.tokens.setdefault((model, region), [0, 0, 0]),
        )
        return cell


def _traced(record: Record) -> bool:
    """Its trace can be found: it was exported, or is that of a client."""
    return record.trace_id is not None and (record.trace is None or record.trace.exported)


def _show(record: Record, *first_tokens: Histogram | None) -> None:
    for histogram in first_tokens:
        if histogram is not None and record.trace_id is not None and record.ttft_s is not None:
            histogram.show(record.trace_id, record.ttft_s, record.arrival_s + record.ttft_s)


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    if not names:
        return ""
    return "{" + ",".join([f'{n}="{_escaped(v)}"' for n, v in zip(names, values, strict=True)]) + "}"


def _escaped(value: str) -> str:
    return value if value.isidentifier() else value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(value + 0)
