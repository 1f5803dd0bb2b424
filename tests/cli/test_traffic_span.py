"""How far back `router traffic stats` looks: `--window` or `--since`, never one of them in silence."""

from __future__ import annotations

from typing import Any

import pytest

from cli.commands import traffic
from cli.commands.traffic import model_words
from cli.errors import CliError, Exit, StatusError
from tests.cli.conftest import Play

USAGE = ("GET", "/admin/v1/usage")


@pytest.fixture
def asked(play: Play) -> Play:
    total = {"requests": 1, "errors": 0, "prompt_tokens": 1, "output_tokens": 1, "cost_usd": None}
    total |= {"ttft_s": {"p50": None, "p99": None}}
    play.admin.answers = {USAGE: {"by": ["model"], "data": [], "total": total}}
    return play


@pytest.mark.parametrize(
    ("options", "since_s"),
    [
        ({"window": "5m", "by": "model"}, 300.0),
        ({"window": "2h", "sort": "cost"}, 7200.0),
        ({"window": None, "by": "model"}, 3600.0),
        ({"window": None, "since": "10m"}, 600.0),
    ],
)
def test_the_window_is_the_span_of_usage(asked: Play, options: dict[str, Any], since_s: float) -> None:
    traffic.run_stats(asked.context, traffic.StatsOptions(as_json=False, **options))
    assert asked.admin.calls[-1][2]["since_s"] == since_s
    assert f"the last {options['window'] or options.get('since') or '1h'}" in asked.err


@pytest.mark.parametrize("by", [None, "model"])
def test_a_window_beside_since_is_refused(asked: Play, by: str | None) -> None:
    with pytest.raises(CliError, match="--window and --since") as caught:
        traffic.run_stats(asked.context, traffic.StatsOptions("5m", False, since="1h", by=by))
    assert caught.value.code is Exit.USAGE
    assert asked.admin.calls == []


@pytest.mark.parametrize("window", ["30s", "25h"])
def test_a_window_that_usage_cannot_have_is_refused_by_its_name(asked: Play, window: str) -> None:
    with pytest.raises(CliError, match="--window must be between 1m and 24h") as caught:
        traffic.run_stats(asked.context, traffic.StatsOptions(window, False, sort="cost"))
    assert caught.value.code is Exit.USAGE
    assert asked.admin.calls == []


@pytest.mark.parametrize("known", [True, False])
def test_keys_are_shown_by_name_where_the_router_tells_them(asked: Play, known: bool) -> None:
    answer = asked.admin.answers[USAGE]
    answer |= {
        "by": ["key", "region"],
        "data": [answer["total"] | {"key": key, "region": "us"} for key in ("k1", "k2")],
    }
    asked.admin.answers["GET", "/admin/v1/keys"] = (
        {"data": [{"id": "k1", "name": "alice"}]} if known else StatusError(503, {"message": "the store is away"})
    )
    traffic.run_stats(asked.context, traffic.StatsOptions(None, False, by="key,region"))
    assert ("alice (k1)" in asked.out) is known
    assert "k1" in asked.out
    assert "k2" in asked.out


def test_an_alias_is_shown_with_the_model_that_answered() -> None:
    assert model_words({"model": "chat", "served_model": "llama-3.1-8b"}) == "chat → llama-3.1-8b"
    assert model_words({"model": "llama-3.1-8b", "served_model": "llama-3.1-8b"}) == "llama-3.1-8b"
    assert model_words({"model": "chat", "served_model": None}) == "chat"
    assert model_words({"model": None}) == "–"
