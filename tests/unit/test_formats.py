"""The page of metrics as text and as OpenMetrics, read by the reference parsers."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from router.telemetry.formats import Format, format_for
from router.telemetry.journal import Record
from router.telemetry.metrics import SPECS, GaugeSample
from router.workers.admin import merge
from tests.unit.test_counters import answered, fold, metrics

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
#: What Prometheus 2 and 3, curl and browsers send.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (PROMETHEUS_2, Format.OPENMETRICS),
        (PROMETHEUS_3, Format.OPENMETRICS),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("Application/OpenMetrics-Text; version=1.0.0", Format.OPENMETRICS),
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/plain", Format.TEXT),
        ("text/plain;version=0.0.4,application/openmetrics-text;q=0.5", Format.TEXT),
        ("application/openmetrics-text;q=0", Format.TEXT),
        ("application/openmetrics-text;q=x", Format.TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Format.TEXT),
    ],
)
def test_the_scraper_chooses(accept: str, form: Format) -> None:
    assert format_for(accept) is form


def page() -> str:
    m = metrics()
    fold(m, answered(trace_id=TRACE), answered(ttft_s=0.02))
    fold(m, Record("id", 0.0, model="m", status=429, error="quota_exhausted", cause="refused", limit="tokens"))
    m.add_source(lambda: [GaugeSample("router_build_info", ("1",), 1), GaugeSample("router_store_up", (), True)])
    return b"".join(m.render(Format.OPENMETRICS)).decode()


def test_openmetrics_reads_by_the_reference_parser() -> None:
    text = page()
    assert text.endswith("# EOF\n")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["router_requests"].type == "counter"
    assert {s.name for s in families["router_requests"].samples} == {"router_requests_total"}
    for name, family in families.items():
        if name.startswith(("router_", "gen_ai_")):
            spec = SPECS.get(name) or SPECS[f"{name}_total"]
            assert (family.type, family.documentation) == (spec.kind, spec.help)


@pytest.mark.parametrize("name", ["router_ttft_seconds", "gen_ai_server_time_to_first_token_seconds"])
def test_first_tokens_have_exemplars_of_traces(name: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(page())}
    found = [s for s in families[name].samples if s.exemplar is not None]
    (sample,) = found
    assert sample.exemplar.labels == {"trace_id": TRACE}
    assert sample.exemplar.value == 0.3
    assert float(sample.exemplar.timestamp) == pytest.approx(1000.3)
    assert float(sample.labels["le"]) >= 0.3


def test_the_pages_of_workers_are_one_page() -> None:
    own = [GaugeSample("router_worker_deaths_total", (), 2)]
    text = merge.metrics({0: page(), 1: page()}, own, Format.OPENMETRICS)
    assert text.count("# EOF") == 1
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {s.labels["worker"] for s in families["router_requests"].samples} == {"0", "1"}
    assert families["router_worker_deaths"].samples[0].value == 2
    assert any(s.exemplar is not None for s in families["router_ttft_seconds"].samples)
