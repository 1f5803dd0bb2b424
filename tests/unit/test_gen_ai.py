"""The metrics under the names of OpenTelemetry's conventions."""

from __future__ import annotations

import pytest

from router.telemetry.journal import Record
from tests.unit.test_counters import answered, fold, metrics, value

CHAT = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "meridian",
    "gen_ai_request_model": "m",
    "gen_ai_response_model": "m",
}


def test_a_request_that_went_well_is_in_all_of_them() -> None:
    m = metrics()
    fold(m, answered(path="/v1/chat/completions"))
    assert value(m, "gen_ai_server_request_duration_seconds_sum", **CHAT, error_type="") == pytest.approx(2.3)
    assert value(m, "gen_ai_server_time_to_first_token_seconds_sum", **CHAT) == pytest.approx(0.3)
    assert value(m, "gen_ai_server_time_per_output_token_seconds_sum", **CHAT) == pytest.approx(0.1)
    assert value(m, "gen_ai_client_token_usage_sum", **CHAT, gen_ai_token_type="input") == 100
    assert value(m, "gen_ai_client_token_usage_sum", **CHAT, gen_ai_token_type="output") == 21
    assert value(m, "gen_ai_client_token_usage_bucket", **CHAT, gen_ai_token_type="output", le="16.0") == 0
    assert value(m, "gen_ai_client_token_usage_bucket", **CHAT, gen_ai_token_type="output", le="64.0") == 1


def test_a_failure_has_a_duration_and_its_error() -> None:
    m = metrics()
    failed = Record(
        "id", 0.0, model="m", path="/v1/embeddings", status=502, error="upstream_error", cause="server_error"
    )
    failed.duration_s = 0.5
    fold(m, failed)
    what = CHAT | {"gen_ai_operation_name": "embeddings"}
    name = "gen_ai_server_request_duration_seconds_sum"
    assert value(m, name, **what, error_type="upstream_error") == 0.5
    assert value(m, "gen_ai_client_token_usage_count", **what, gen_ai_token_type="input") is None


def test_the_model_that_was_asked_for_and_the_one_that_answered() -> None:
    m = metrics(("fast", "m"))
    fold(m, answered(path="/v1/chat/completions", model="fast"))
    what = CHAT | {"gen_ai_request_model": "fast"}
    assert value(m, "gen_ai_server_request_duration_seconds_count", **what, error_type="") == 1


def test_clients_cannot_make_series() -> None:
    m = metrics()
    for n in range(100):
        fold(m, answered(path=f"/v1/{n}", model=f"stranger-{n}"))
    what = CHAT | {"gen_ai_operation_name": "other", "gen_ai_request_model": "other"}
    assert value(m, "gen_ai_server_request_duration_seconds_count", **what, error_type="") == 100


def test_what_could_not_be_read_is_left_out() -> None:
    m = metrics()
    fold(m, Record("id", 0.0, method="-", path="-", status=400, error="invalid_request", cause="refused"))
    assert b"gen_ai" not in b"".join(m.render())
