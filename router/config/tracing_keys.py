"""The keys of ``[tracing]``: where spans of requests are sent, and of which requests."""

from __future__ import annotations

from router.config.address import collector_problem
from router.config.model import TracingSection
from router.config.names import env_problem, file_problem
from router.config.setting import Section, Setting

TRACING = Section(
    "tracing",
    "Traces for OpenTelemetry: a span for each request and one for each attempt, sent to a collector by OTLP over "
    "HTTP. See [Traces](metrics.md#traces).",
    TracingSection,
    (
        Setting(
            "endpoint",
            "string",
            'URL of the collector, e.g. "http://collector:4318"; `/v1/traces` is added. Without it nothing is traced.',
            problem=collector_problem,
            secret=True,
            attr="collector",
        ),
        Setting(
            "headers_env",
            "string",
            "Environment variable with headers for the collector, as `name=value,name=value`, percent-encoded: that of "
            "OTEL_EXPORTER_OTLP_HEADERS.",
            problem=env_problem,
            secret=True,
        ),
        Setting("compression", "string", "Of what is sent.", choices=("none", "gzip")),
        Setting(
            "sample",
            "number",
            "Share of the traces that begin here and are exported. Failures, requests with several attempts and slow "
            "ones are exported whatever it is; a client's own trace is exported if the client says that it is sampled.",
            low=0.0,
            high=1.0,
        ),
        Setting(
            "slow_s",
            "number",
            "Seconds to the first token of a stream, or to the end of a whole answer, from which on a request is slow.",
            low=0.0,
            high=86_400.0,
        ),
        Setting(
            "tls_ca",
            "string",
            "PEM file with authorities for an https:// endpoint. Default: those of the system.",
            problem=file_problem,
        ),
    ),
)
