"""The counters: what requests add to them, how they read, and that nobody can make them grow."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.telemetry.counters import Metrics
from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.kinds import kinds_of
from router.telemetry.labels import Labels
from router.telemetry.metrics import SPECS, GaugeSample


class Clock:
    def __init__(self) -> None:
        self.at_s = 0.0

    def __call__(self) -> float:
        return self.at_s


def metrics(models: tuple[str, ...] = ("m",)) -> Metrics:
    return Metrics(Labels(lambda: models, Clock()))


def answered(**changes: object) -> Record:
    record = Record(
        "id",
        1000.0,
        model="m",
        served_model="m",
        stream=True,
        status=200,
        attempts=[AttemptRecord("us/a", "us", 0.002, "ok", 0.3, 0.25, 200)],
        ttft_s=0.3,
        duration_s=2.3,
        prompt_tokens=100,
        output_tokens=21,
        cached_tokens=64,
    )
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def fold(m: Metrics, *records: Record) -> None:
    for kind in dict.fromkeys(kinds_of(records)):
        m.fold(kind)


def samples(m: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = b"".join(m.render()).decode()
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if not s.name.startswith("process_")
    }


def value(m: Metrics, name: str, **labels: str) -> float | None:
    return samples(m).get((name, tuple(sorted(labels.items()))))


def test_a_request_is_counted_everywhere_it_should_be() -> None:
    m = metrics()
    fold(m, answered())
    at = {"model": "m", "region": "us", "backend": "us/a"}
    assert value(m, "router_requests_total", **at, code="200", cause="ok") == 1
    assert value(m, "router_ttft_seconds_sum", **at) == pytest.approx(0.3)
    assert value(m, "router_ttft_seconds_bucket", **at, le="0.2") == 0
    assert value(m, "router_ttft_seconds_bucket", **at, le="0.4") == 1
    assert value(m, "router_ttft_seconds_bucket", **at, le="+Inf") == 1
    assert value(m, "router_request_duration_seconds_sum", model="m", region="us") == pytest.approx(2.3)
    assert value(m, "router_itl_seconds_sum", model="m", region="us") == pytest.approx(0.1)
    assert value(m, "router_dispatch_seconds_sum", model="m") == pytest.approx(0.002)
    assert value(m, "router_queue_wait_seconds_count", model="m") is None, "it did not wait"
    for direction, tokens in (("prompt", 100), ("output", 21), ("cached", 64)):
        assert value(m, "router_tokens_total", model="m", region="us", direction=direction) == tokens
    assert value(m, "router_attempts_total", region="us", backend="us/a", outcome="ok") == 1
    error = value(m, "router_ttft_prediction_error_seconds_sum", region="us", backend="us/a")
    assert error == pytest.approx(0.05)


def test_a_value_on_a_bound_is_within_it() -> None:
    m = metrics()
    fold(m, answered(ttft_s=0.4))
    assert value(m, "router_ttft_seconds_bucket", model="m", region="us", backend="us/a", le="0.4") == 1


def test_every_attempt_of_a_request_is_counted() -> None:
    attempts = [
        AttemptRecord("us/a", "us", 0.001, "unreachable"),
        AttemptRecord("eu/a", "eu", 0.1, "overloaded", kind="retry"),
        AttemptRecord("eu/b", "eu", 0.2, "truncated", kind="retry"),
        AttemptRecord("us/b", "us", 1.0, "ok", kind="retry"),
    ]
    m = metrics()
    fold(m, answered(attempts=attempts, wait_s=0.5))
    assert value(m, "router_requests_total", model="m", region="us", backend="us/b", code="200", cause="ok") == 1
    assert value(m, "router_attempts_total", region="us", backend="us/a", outcome="unreachable") == 1
    assert value(m, "router_attempts_total", region="eu", backend="eu/a", outcome="overloaded") == 1
    for backend in ("eu/a", "eu/b", "us/b"):
        assert value(m, "router_retries_total", region=backend[:2], backend=backend, kind="retry") == 1
    assert value(m, "router_queue_wait_seconds_sum", model="m") == 0.5


def test_a_refused_request_has_no_place() -> None:
    m = metrics()
    refused = Record("id", 0.0, model="m", status=429, error="quota_exhausted", cause="refused", limit="tokens")
    refused.limit_scope = "tenant"
    fold(m, refused)
    assert value(m, "router_requests_total", model="m", region="", backend="", code="429", cause="refused") == 1
    assert value(m, "router_quota_refusals_total", limit="tokens", scope="tenant") == 1
    assert not any(name.startswith("router_attempts") for name, _ in samples(m))


def test_clients_cannot_make_series() -> None:
    m = metrics()
    fold(m, Record("id", 0.0, model="first-stranger", status=404, cause="refused"))
    before = len(samples(m))
    for n in range(2_000):
        fold(m, Record("id", 0.0, model=f"stranger-{n}", status=404, cause="refused"))
    assert len(samples(m)) == before
    assert value(m, "router_requests_total", model="other", region="", backend="", code="404", cause="refused") == 2_001


def test_label_values_are_escaped() -> None:
    odd = 'a"b\\c\nd'
    m = metrics((odd,))
    fold(m, answered(served_model=odd))
    assert value(m, "router_dispatch_seconds_count", model=odd) == 1


def test_a_model_that_appears_later_gets_its_name() -> None:
    clock, models = Clock(), ["m"]
    labels = Labels(lambda: models, clock)
    assert labels.model("new") == "other"
    models.append("new")
    assert labels.model("new") == "other", "asked at most once a second"
    clock.at_s += 1
    assert labels.model("new") == "new"
    assert labels.model(None) == ""


def test_series_of_a_removed_backend_go() -> None:
    m = metrics()
    fold(m, answered(attempts=[AttemptRecord("us/b", "us", 0.0, "ok", 0.1, 0.2, kind="retry")]))
    fold(m, answered())
    m.forget(["us/a"])
    backends = {dict(labels).get("backend") for _, labels in samples(m)}
    assert backends == {"us/b", None}
    fold(m, answered())
    assert value(m, "router_attempts_total", region="us", backend="us/a", outcome="ok") == 1


def test_gauges_are_read_at_the_scrape() -> None:
    m = metrics()
    depth = [3.0]
    m.add_source(lambda: [GaugeSample("router_queue_length", ("m",), depth[0])])
    assert value(m, "router_queue_length", model="m") == 3
    depth[0] = 4
    assert value(m, "router_queue_length", model="m") == 4


def test_the_page_says_the_same_to_the_reference_parser() -> None:
    m = metrics()
    fold(m, answered())
    fold(m, Record("id", 0.0, model="m", status=429, error="quota_exhausted", cause="refused", limit="tokens"))
    m.add_source(lambda: [GaugeSample("router_build_info", ("1",), 1), GaugeSample("router_store_up", (), True)])
    page = b"".join(m.render()).decode()
    families = {f.name: f for f in text_string_to_metric_families(page)}
    assert families["router_requests"].type == "counter"
    assert families["router_ttft_seconds"].type == "histogram"
    assert families["router_store_up"].samples[0].value == 1
    for name, family in families.items():
        if name.startswith("router_"):
            spec = SPECS.get(name) or SPECS[f"{name}_total"]
            assert family.documentation == spec.help
            for sample in family.samples:
                assert tuple(k for k in sample.labels if k != "le") == spec.labels
    assert page.endswith("\n")
    assert "process_resident_memory_bytes" in page


def test_requests_folded_together_count_as_one_by_one() -> None:
    records = [
        answered(ttft_s=0.01 * n, output_tokens=n, stream=bool(n % 3), cached_tokens=n or None) for n in range(7)
    ]
    records += [answered(wait_s=0.2), answered(attempts=[*answered().attempts, AttemptRecord("eu/a", "eu", 0.1, "ok")])]
    records.append(Record("id", 0.0, model="m", status=429, error="quota_exhausted", cause="refused", limit="tokens"))
    together, one_by_one = metrics(), metrics()
    fold(together, *records)
    for record in records:
        fold(one_by_one, record)
    assert samples(together) == pytest.approx(samples(one_by_one))
