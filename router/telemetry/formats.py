"""The two formats of the page that Prometheus scrapes: its own text, and OpenMetrics, which has exemplars.

https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

from enum import Enum

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

END = "# EOF\n"
_TEXT_TYPES = ("text/plain", "text/*", "*/*")
_OPENMETRICS_TYPE = "application/openmetrics-text"


class Format(Enum):
    """``value`` is the type of the content."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

    def heading(self, name: str, kind: str, text: str) -> list[str]:
        """The comments before a metric. In OpenMetrics the family of a counter is named without ``_total``."""
        if self is Format.OPENMETRICS:
            name = name.removesuffix("_total") if kind == "counter" else name
            text = text.replace('"', '\\"')
        return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]

    def foreign(self, registry: CollectorRegistry) -> bytes:
        """The metrics of a registry of prometheus_client, and the end of the page."""
        if self is Format.TEXT:
            return generate_latest(registry)
        page: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
        return page


def format_for(accept: str) -> Format:
    """The format that a header ``Accept`` prefers; ours of old when it does not care."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        name, *params = (word.strip().lower() for word in part.split(";"))
        q = next((param[2:] for param in params if param.startswith("q=")), "1")
        try:
            weights[name] = max(weights.get(name, 0.0), float(q))
        except ValueError:
            continue
    wanted = weights.get(_OPENMETRICS_TYPE, 0.0)
    other = max((weights.get(name, 0.0) for name in _TEXT_TYPES), default=0.0)
    return Format.OPENMETRICS if wanted > 0 and wanted >= other else Format.TEXT


def exemplar(trace_id: str, value: float, at_s: float) -> str:
    """The end of a bucket's line: a trace whose value is in it."""
    return f' # {{trace_id="{trace_id}"}} {value!r} {at_s:.3f}'
