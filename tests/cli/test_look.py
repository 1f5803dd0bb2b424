"""Commands that read: what they ask of the router and what they print, with a router that is a table."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable

import pytest

from cli.client import Event
from cli.commands import drain, explain, regions, status, top, traffic
from cli.commands.traffic import Filters
from cli.errors import CliError, Exit, StatusError
from cli.output import Output
from cli.region_tables import regions_table
from tests.cli.conftest import Json, Play

Make = Callable[..., Json]
REGIONS = ("GET", "/admin/v1/regions")


def test_status(play: Play, status: Make, region: Make) -> None:
    play.admin.answers = {("GET", "/admin/v1/status"): status(), REGIONS: {"data": [region()]}}
    code = _status(play)
    assert code is Exit.OK
    assert "● ready  edge-us-1 · in us-east · policy ttft · version 0.1.0 · up 3m 12s" in play.out
    assert "12 requests/s · 5 in flight · 0 waiting · 812 tokens/s · 0 % failed" in play.out
    assert "p50 84 ms · p99 310 ms" in play.out
    assert "redis ● up · round trip 0.4 ms" in play.out


def test_status_of_a_router_that_is_not_ready(play: Play, status: Make) -> None:
    play.admin.answers = {("GET", "/admin/v1/status"): status(ready=False), REGIONS: {"data": []}}
    assert _status(play) is Exit.UNHEALTHY
    assert "not ready" in play.out


def test_status_tells_why_it_is_not_ready(play: Play, status: Make) -> None:
    sick = status(ready=False)
    sick["router"]["not_ready"] = "no backend [of 7] is usable"
    play.admin.answers = {("GET", "/admin/v1/status"): sick, REGIONS: {"data": []}}
    assert _status(play) is Exit.UNHEALTHY
    assert "not ready: no backend [of 7] is usable" in play.out


def test_status_tells_of_a_file_that_was_refused(play: Play, status: Make) -> None:
    told = status()
    told["router"]["config_refused"] = {"at_s": 1_790_000_000.0, "problems": ["r1.toml:28: [plans.default]: x", "y"]}
    play.admin.answers = {("GET", "/admin/v1/status"): told, REGIONS: {"data": []}}
    assert _status(play) is Exit.OK
    assert "ready, would not start again" in play.out
    assert "refused at" in play.out
    assert "r1.toml:28: [plans.default]: x, and 1 more problem" in play.out


def test_status_json_is_the_admin_document(play: Play, status: Make) -> None:
    play.admin.answers = {("GET", "/admin/v1/status"): status()}
    _status(play, as_json=True)
    assert json.loads(play.out) == status()


def _status(play: Play, *, as_json: bool = False) -> Exit:
    return status.run_status(play.context, status.StatusOptions(as_json))


def test_regions_list_lines_up(play: Play, region: Make, backend: Make) -> None:
    sick = [backend("eu/a", usable=False), backend("eu/b")]
    unknown = region("eu", state="degraded", backends=sick, rtt_s=None, queue=None, kv_ratio=None, age_s=None)
    play.admin.answers = {REGIONS: {"data": [region(), unknown]}}
    regions.run_list(play.context, regions.ListOptions(as_json=False))
    head, first, second = play.out.splitlines()
    assert head.split("  ")[0] == "region"
    assert "1.2 ms" in first
    assert "42 %" in first
    assert "● degraded" in second
    assert "1/2" in second
    assert second.count("–") == 4, "what is unknown is a dash"
    assert len({line.index(word) for line, word in ((first, "● ok"), (second, "● degraded"))}) == 1
    assert not any(line.endswith(" ") for line in play.out.splitlines())


def test_no_regions_says_what_to_do(play: Play) -> None:
    play.admin.answers = {REGIONS: {"data": []}}
    regions.run_list(play.context, regions.ListOptions(as_json=False))
    assert play.out == ""
    assert "router regions add" in play.err


def test_regions_show(play: Play, region: Make, backend: Make) -> None:
    broken = backend("us-east/b", state="ejected", usable=False, last_error="connect: refused [Errno 111]")
    play.admin.answers = {REGIONS: {"data": [region(backends=[backend(), broken])]}}
    regions.run_show(play.context, regions.NameOptions("us-east", as_json=False))
    assert "us-east  ● ok  jurisdiction us · 38.9, -77.0 · 1.2 ms away" in play.out
    assert "● ejected, unusable" in play.out
    assert "connect: refused [Errno 111]" in play.out, "brackets are no markup"


def test_regions_show_one_backend(play: Play, region: Make) -> None:
    play.admin.answers = {REGIONS: {"data": [region()]}}
    regions.run_show(play.context, regions.NameOptions("us-east/a", as_json=False))
    assert "3 of 256 in flight, 1,234 in all, 2 failed" in play.out
    assert "1.2 ms, at best 1.0 ms  just now" in play.out
    assert "after tokens and text  goes on after its own tokens" in play.out


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"how": "text", "reason": "goes on after a text"}, "after a text"),
        ({"how": "no", "reason": "began [again]"}, "no  began [again]"),
        ({"how": "unknown", "reason": "not asked yet"}, "not known yet  not asked yet"),
        (None, "–"),
    ],
)
def test_a_backend_tells_whether_it_can_go_on_with_answers(
    play: Play, region: Make, found: Json | None, words: str
) -> None:
    one = region()
    one["backends"][0]["continues"] = found
    play.admin.answers = {REGIONS: {"data": [one]}}
    regions.run_show(play.context, regions.NameOptions("us-east/a", as_json=False))
    line = next(line for line in play.out.splitlines() if "continues" in line)
    assert words in line


def test_regions_show_json(play: Play, region: Make) -> None:
    play.admin.answers = {REGIONS: {"data": [region()]}}
    regions.run_show(play.context, regions.NameOptions("us-east/b", as_json=True))
    assert json.loads(play.out)["name"] == "us-east/b"


@pytest.mark.parametrize("name", ["us-west", "us-east/z"])
def test_regions_show_names_what_there_is(play: Play, region: Make, name: str) -> None:
    play.admin.answers = {REGIONS: {"data": [region()]}}
    with pytest.raises(CliError) as caught:
        regions.run_show(play.context, regions.NameOptions(name, as_json=False))
    assert caught.value.hint is not None
    assert "us-east" in caught.value.hint


@pytest.mark.parametrize(("name", "path"), [("us-east", "regions/us-east"), ("us-east/a", "backends/us-east/a")])
def test_drain_says_what_is_left(play: Play, region: Make, name: str, path: str) -> None:
    play.admin.answers = {("POST", f"/admin/v1/{path}/drain"): region(applied="all routers", inflight=1)}
    drain.run_drain(play.context, drain.DrainOptions(name))
    assert play.out == f"✓ {name} gets no new requests (all routers); 1 request still in flight there\n"


def test_drain_of_nothing(play: Play) -> None:
    with pytest.raises(StatusError) as caught:
        drain.run_drain(play.context, drain.DrainOptions("nowhere"))
    assert caught.value.hint == "`router regions list` shows what there is."


def test_probe_of_a_dead_backend_is_unhealthy(play: Play, region: Make) -> None:
    good = {"backend": "us-east/a", "ok": True, "status": 200, "rtt_s": 0.001, "error": None, "models": ["m"]}
    dead = {"backend": "us-east/b", "ok": False, "status": None, "rtt_s": None, "error": "refused", "models": []}
    play.admin.answers = {("POST", "/admin/v1/regions/us-east/probe"): region(probes=[good, dead])}
    assert regions.run_verb(play.context, regions.VerbOptions("probe", "us-east", as_json=False)) is Exit.UNHEALTHY
    assert "● HTTP 200" in play.out
    assert "● no answer" in play.out


def test_traffic_list_is_oldest_first(play: Play, summary: Make) -> None:
    newest = summary(
        request_id="req-2", status=503, error="no_backend", backend=None, attempts=3, ttft_s=None, wait_s=0.2
    )
    play.admin.answers = {("GET", "/admin/v1/requests"): {"data": [newest, summary()]}}
    traffic.run_list(play.context, traffic.ListOptions(Filters("m", None, "us-east", "5xx"), 5, None, as_json=False))
    assert play.admin.calls == [
        ("GET", "/admin/v1/requests", {"limit": 5, "model": "m", "backend": "us-east", "status": "5xx"})
    ]
    _, first, second = play.out.splitlines()
    assert "req-1" in first
    assert "100 → 51" in first
    assert second.endswith("no_backend, 3 attempts, waited 200 ms")


def test_traffic_since_is_a_moment(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic.time, "time", lambda: 1000.0)
    play.admin.answers = {("GET", "/admin/v1/requests"): {"data": []}}
    traffic.run_list(play.context, traffic.ListOptions(Filters(), 5, "5m", as_json=False))
    assert play.admin.calls[0][2]["since_s"] == 700.0


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("90", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400)])
def test_spans(text: str, seconds: float) -> None:
    assert traffic.span_s(text) == seconds


@pytest.mark.parametrize("text", ["", "5 minutes", "-3s", "s"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(CliError) as caught:
        traffic.span_s(text)
    assert caught.value.code is Exit.USAGE


def test_tail_prints_what_comes_and_what_was_dropped(play: Play, summary: Make) -> None:
    events = [Event(json.dumps(summary()), "request"), Event('{"records":7}', "dropped")]
    play.admin.answers = {("TAIL", "/admin/v1/requests/tail"): events}
    with pytest.raises(CliError) as caught:
        traffic.run_tail(play.context, traffic.TailOptions(Filters(tenant="acme"), as_json=False))
    assert caught.value.code is Exit.UNREACHABLE, "the stream ended: the router has gone"
    assert "us-east/a" in play.out
    assert "first token" in play.err, "the heading"
    assert "7 requests not shown" in play.err
    assert play.admin.calls[0][2] == {"tenant": "acme"}


def test_tail_json_is_one_document_a_line(play: Play, summary: Make) -> None:
    events = [Event(json.dumps(summary(request_id=f"req-{i}")), "request") for i in range(3)]
    play.admin.answers = {("TAIL", "/admin/v1/requests/tail"): events}
    with pytest.raises(CliError):
        traffic.run_tail(play.context, traffic.TailOptions(Filters(), as_json=True))
    assert [json.loads(line)["request_id"] for line in play.out.splitlines()] == ["req-0", "req-1", "req-2"]


def test_traffic_show_tells_the_whole_story(play: Play, record: Json) -> None:
    play.admin.answers = {("GET", "/admin/v1/requests/req-1"): record}
    traffic.run_show(play.context, traffic.ShowOptions("req-1", as_json=False))
    for part in (
        "tenant acme · from us-west · key key_1 · default · standard · only in us",
        "200 · first token after 84 ms · 1.08 s in all",
        "100 prompt · 64 of them cached · 51 answer · 50 a second",
        "could not be reached",
        "us-east/a retry",
        "+91 ms, rtt",
        "+200 ms, queue",
        "draining",
    ):
        assert part in play.out, part


@pytest.mark.parametrize(("repetition", "ended"), [("observed", ""), ("stopped", ", and was ended")])
def test_an_answer_that_repeated_itself_is_told(play: Play, record: Json, repetition: str, ended: str) -> None:
    looped = record | {"repetition": repetition, "repetition_bytes": 42, "repetition_tokens": 1200}
    play.admin.answers = {("GET", "/admin/v1/requests/req-1"): looped}
    traffic.run_show(play.context, traffic.ShowOptions("req-1", as_json=False))
    assert f"repeated 42 bytes, noticed after 1,200 tokens{ended}" in " ".join(play.out.split())


@pytest.mark.parametrize("limit", ["budget", "requests"])
def test_a_refusal_says_which_limit_of_which_plan(play: Play, record: Json, limit: str) -> None:
    words = "Budget reached: 0.05 of 0.05 USD of this month are used."
    nobody = {"policy": None, "backend": None, "candidates": [], "error": "quota_exhausted"}
    why = {"limit": limit, "plan": "trial [x]", "refusal": words}
    refused = record | {"status": 429, "error": "quota_exhausted", "cause": "refused", "attempts": []} | why
    refused |= {"usage_reported": False}
    play.admin.answers = {
        ("GET", "/admin/v1/requests/req-1"): refused | {"decision": nobody | why},
        ("POST", "/admin/v1/explain"): {"request_id": "req-1", "decision": nobody | why},
    }
    key = {"budget": "budget_usd_month", "requests": "requests_per_minute"}[limit]
    traffic.run_show(play.context, traffic.ShowOptions("req-1", as_json=False))
    assert f"refused by {key} of plan trial [x] · {words}" in play.out
    assert "engine reported no usage" not in play.out, "no engine was asked"
    explain.run_explain(play.context, explain.ExplainOptions("req-1", {}, as_json=False))
    assert f"no backend was chosen · refused by {key} of plan trial [x] · {words}" in play.out


def test_last_is_the_request_that_ended_last(play: Play, record: Json, summary: Make) -> None:
    play.admin.answers = {
        ("GET", "/admin/v1/requests"): {"data": [summary(request_id="req-9")], "matching": 1},
        ("GET", "/admin/v1/requests/req-9"): record,
        ("POST", "/admin/v1/explain"): {"request_id": "req-9", "decision": record["decision"], "request": record},
    }
    traffic.run_show(play.context, traffic.ShowOptions("last", as_json=False))
    assert play.admin.calls[-1][1] == "/admin/v1/requests/req-9"
    explain.run_explain(play.context, explain.ExplainOptions("last", {}, as_json=False))
    assert play.admin.calls[-1][2] == {"request_id": "req-9"}
    first, *_ = play.out.splitlines()
    assert first.endswith("."), "the sentence comes first"
    assert play.out.count(first) == 2
    play.admin.answers["GET", "/admin/v1/requests"] = {"data": [], "matching": 0}
    with pytest.raises(CliError, match="no request yet"):
        traffic.run_show(play.context, traffic.ShowOptions("last", as_json=False))


def test_a_list_says_that_there_are_more(play: Play, summary: Make) -> None:
    play.admin.answers = {("GET", "/admin/v1/requests"): {"data": [summary(), summary()], "matching": 312}}
    traffic.run_list(play.context, traffic.ListOptions(Filters(), 2, None, as_json=False))
    assert "2 of 312 matching requests; -n 312 shows more" in play.err


def test_filters_reach_the_router(play: Play, summary: Make) -> None:
    play.admin.answers = {
        ("GET", "/admin/v1/requests"): {"data": [summary()], "matching": 1},
        ("GET", "/admin/v1/keys"): {"data": [{"id": "key_1", "name": "alice", "revoked": False}]},
    }
    filters = Filters(region="us-east", key="alice", slower_than="1.5s")
    traffic.run_list(play.context, traffic.ListOptions(filters, 5, None, as_json=False, sort="ttft"))
    asked = {"limit": 5, "sort": "ttft", "region": "us-east", "key": "key_1", "slower_than_s": 1.5}
    assert play.admin.calls[-1][2] == asked
    assert "more" not in play.err


def test_stats(play: Play) -> None:
    entry = {
        "requests": 120,
        "requests_per_s": 2.0,
        "errors": 1,
        "prompt_tokens": 10,
        "output_tokens": 100,
        "output_tokens_per_s": 1.7,
        "ttft_s": {"p50": 0.1, "p90": 0.2, "p99": None},
    }
    groups = {f"by_{name}": [entry | {"name": "x"}] for name in ("region", "model", "tenant")}
    answer = entry | {"window_s": 300.0} | groups | {"by_cause": [entry | {"name": None}]}
    play.admin.answers = {("GET", "/admin/v1/stats"): answer}
    traffic.run_stats(play.context, traffic.StatsOptions("5m", as_json=False))
    assert play.admin.calls[0][2] == {"window_s": 300.0}
    assert [line.split()[0] for line in play.out.splitlines()[1:]] == ["all", "region", "model", "tenant", "cause"]


def test_explain_a_request(play: Play, decision: Json) -> None:
    play.admin.answers = {("POST", "/admin/v1/explain"): {"request_id": "req-1", "decision": decision}}
    explain.run_explain(play.context, explain.ExplainOptions("req-1", {}, as_json=False))
    assert play.admin.calls == [("POST", "/admin/v1/explain", {"request_id": "req-1"})]
    assert "us-east/a · policy ttft" in play.out


def test_a_decision_that_is_not_kept_is_not_taken_for_none(play: Play) -> None:
    decision = {"policy": "ttft", "backend": "us-east/a", "candidates": []}
    play.admin.answers = {("POST", "/admin/v1/explain"): {"request_id": "req-1", "decision": decision}}
    explain.run_explain(play.context, explain.ExplainOptions("req-1", {}, as_json=False))
    assert "us-east/a · policy ttft · the router has forgotten the candidates of this decision" in play.out


def test_explain_needs_one_of_both(play: Play) -> None:
    for options in (
        explain.ExplainOptions(None, {"messages": []}, as_json=False),
        explain.ExplainOptions("req-1", {"model": "m"}, as_json=False),
    ):
        with pytest.raises(CliError) as caught:
            explain.run_explain(play.context, options)
        assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ({"kind": "dispatch", "predicted_ttft_s": 0.083}, "us-east/a · first token expected after 83 ms · policy ttft"),
        ({"kind": "wait"}, "it would wait · every usable backend is full · policy ttft"),
        (
            {"kind": "reject", "reason": "no_backend", "detail": "None.", "retry_after_s": 2},
            "no_backend · None. · again in 2.00 s · policy ttft",
        ),
    ],
)
def test_headline_of_a_dry_run(play: Play, decision: Json, outcome: Json, text: str) -> None:
    play.context.out.line(explain.headline(decision | outcome))
    assert play.out == text + "\n"


def test_top_needs_a_terminal(play: Play) -> None:
    with pytest.raises(CliError) as caught:
        top.run_top(play.context, top.TopOptions(1.0))
    assert caught.value.code is Exit.USAGE


def test_a_terminal_gets_colours(region: Make) -> None:
    assert "\x1b[32m●" in _shown(region(), COLUMNS="120")
    assert "\x1b[32m" not in _shown(region(), COLUMNS="120", NO_COLOR="1")


def test_a_narrow_terminal_gets_fewer_columns(region: Make) -> None:
    wide, narrow = (_shown(region(), COLUMNS=columns, NO_COLOR="1") for columns in ("120", "60"))
    assert "tokens/s" in wide
    assert "tokens/s" not in narrow
    assert "…" not in narrow
    assert "● ok" in narrow
    assert all(len(line) <= 60 for line in re.sub(r"\x1b\[\d*m", "", narrow).splitlines())


def _shown(view: Json, **env: str) -> str:
    stream = io.StringIO()
    out = Output(stream, io.StringIO(), env={"FORCE_COLOR": "1", "TERM": "xterm", **env})
    out.line(regions_table([view]))
    return stream.getvalue()


@pytest.mark.parametrize("window", ["0s", "16m", "1h"])
def test_traffic_stats_look_back_fifteen_minutes_at_most(play: Play, window: str) -> None:
    with pytest.raises(CliError) as caught:
        traffic.run_stats(play.context, traffic.StatsOptions(window, as_json=False))
    assert caught.value.code is Exit.USAGE
    assert caught.value.message == f"--window must be between 1s and 15m, not {window}"
