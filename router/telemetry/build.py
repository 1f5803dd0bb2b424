"""Makes the telemetry of a process as the configuration says."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from router import clock
from router.config import Config
from router.core.fleet import Fleet
from router.errors import ConfigError
from router.telemetry.counters import Metrics
from router.telemetry.diary import Diary
from router.telemetry.history import History
from router.telemetry.journal import Journal
from router.telemetry.labels import Labels
from router.telemetry.sink import Telemetry
from router.telemetry.spans import Gateway, place_of
from router.telemetry.stats import Stats
from router.telemetry.trace_export import TraceExporter
from router.telemetry.writer import LineWriter, RotatingFile


def telemetry_of(
    config: Config, models: Callable[[], Iterable[str]], *, access: LineWriter | None, human: bool
) -> Telemetry:
    """Raises ConfigError when the journal's file cannot be written."""
    labels = Labels(models, clock.monotonic_s)
    file, section = None, config.journal
    if section.path is not None:
        try:
            sink = RotatingFile(section.path, file_bytes=section.file_bytes, files=section.files)
        except OSError as error:
            problem = f"{config.source}: [journal] path: {section.path} cannot be written: {error.strerror}"
            raise ConfigError(config.source, [problem]) from None
        file = LineWriter(sink, name="journal")
    return Telemetry(
        Journal(section.records, file),
        Metrics(labels),
        Stats(labels, clock.monotonic_s),
        access=access,
        human=human,
        router=config.router.name,
    )


def diary_of(config: Config, telemetry: Telemetry, history: History, *, worker: int | None) -> Diary | None:
    """A diary of its own for each of several workers. Raises ConfigError when it cannot be written."""
    path = config.journal.diary
    if path is None:
        return None
    try:
        return Diary(path if worker is None else f"{path}.{worker}", telemetry, history)
    except OSError as error:
        problem = f"{config.source}: [journal] diary: {path} cannot be written: {error.strerror}"
        raise ConfigError(config.source, [problem]) from None


def exporter_of(telemetry: Telemetry, config: Config, fleet: Fleet, *, version: str) -> TraceExporter:
    """The sender of the spans of a process, for the collector that the configuration names."""

    def find(backend: str) -> tuple[str, str] | None:
        known = fleet.backends.get(backend)
        return None if known is None else (known.spec.engine, known.spec.url)

    router = config.router
    scheme = "http" if router.tls_cert is None else "https"
    gateway = Gateway(router.name, version, scheme, lambda backend: place_of(find(backend)))
    return TraceExporter(telemetry.tracing, gateway)
