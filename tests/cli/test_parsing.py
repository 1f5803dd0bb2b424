"""Flags alone: what is typed becomes the options of one command, and nothing runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import build, called
from cli.commands import (
    bench,
    burn_in,
    capacity,
    chaos,
    chat,
    config,
    config_apply,
    ctx,
    demo,
    doctor,
    drain,
    events,
    explain,
    keys,
    operators,
    plan,
    quota,
    regions,
    routers,
    serve,
    sim,
    sources,
    spending,
    status,
    top,
    traffic,
)
from cli.commands.traffic import Filters
from cli.context import Context
from cli.contexts import NamedRouter
from cli.errors import Exit
from sim.shapes import SHAPES


class Recorder(Context):
    """Takes down what would run."""

    ran: tuple[str, Any] | None = None

    def run(self, command: Callable[..., Any], options: Any) -> None:
        self.ran = (command.__name__, options)


def typed(*words: str, env: dict[str, str] | None = None) -> Recorder:
    recorder = Recorder()
    unset = {"ROUTER_CONFIG": None, "ROUTER_URL": None, "ROUTER_API_KEY": None}
    result = CliRunner().invoke(build(called(words, {})), list(words), obj=recorder, env={**unset, **(env or {})})
    assert result.exit_code == 0, result.output
    return recorder


BENCH = {
    "concurrency": 8,
    "rate": None,
    "duration_s": None,
    "requests": None,
    "prompt_tokens": 200,
    "max_tokens": 64,
    "seed": None,
}

CASES = [
    ("capacity --json", "run_capacity", capacity.CapacityOptions(as_json=True)),
    ("status --json", "run_status", status.StatusOptions(as_json=True)),
    ("top -i 0.5", "run_top", top.TopOptions(interval_s=0.5)),
    (
        "top requests --once --filter status:5xx --read-only --router r",
        "run_top",
        top.TopOptions(1.0, router="r", once=True, read_only=True, tab="requests", words="status:5xx"),
    ),
    (
        "events -f --since 1h --region us-east --backend us-east/a --kind health,drain --router edge-1 -n 5 --json",
        "run_follow",
        events.EventsOptions(True, "1h", "us-east", "us-east/a", "health,drain", "edge-1", 5, as_json=True),
    ),
    (
        "traffic stats --since 24h --by key,model --sort cost --router edge-1",
        "run_stats",
        traffic.StatsOptions(None, False, "edge-1", "24h", "key,model", "cost"),
    ),
    ("routers list --json", "run_list", routers.ListOptions(as_json=True)),
    ("status --router edge-2", "run_status", status.StatusOptions(as_json=False, router="edge-2")),
    ("operators list", "run_list", operators.ListOptions(as_json=False)),
    ("operators add anna --role operate", "run_add", operators.AddOptions("anna", "operate", as_json=False)),
    ("operators remove anna --json", "run_remove", operators.NameOptions("anna", as_json=True)),
    ("operators whoami", "run_whoami", operators.ListOptions(as_json=False)),
    ("regions list", "run_list", regions.ListOptions(as_json=False)),
    ("regions show us-east/a --json", "run_show", regions.NameOptions("us-east/a", as_json=True)),
    (
        "regions burn-in us-east/b --timeout 20 --json",
        "run_burn_in",
        burn_in.BurnInOptions("us-east/b", 20.0, as_json=True),
    ),
    ("regions drain us-east", "run_drain", drain.DrainOptions("us-east")),
    (
        "regions drain us-east --for 30m --reason upgrade --wait --force",
        "run_drain",
        drain.DrainOptions("us-east", "30m", "upgrade", wait=True, force=True),
    ),
    ("regions remove us-east --force", "run_remove", regions.RemoveOptions("us-east", None, force=True)),
    ("keys revoke me --force", "run_revoke", keys.KeyOptions("me", as_json=False, force=True)),
    ("quota reset me --minute", "run_reset", quota.ResetOptions("me", as_json=False, minute=True)),
    ("quota reset me --month --force", "run_reset", quota.ResetOptions("me", as_json=False, month=True, force=True)),
    ("regions sources --json", "run_sources", sources.SourcesOptions(as_json=True)),
    ("regions resume us-east/a", "run_verb", regions.VerbOptions("resume", "us-east/a", as_json=False)),
    (
        "regions notice us-east --in 2m",
        "run_notice",
        regions.NoticeOptions("us-east", "2m", cancel=False, as_json=False),
    ),
    (
        "regions notice us-east/a --cancel --json",
        "run_notice",
        regions.NoticeOptions("us-east/a", None, cancel=True, as_json=True),
    ),
    ("regions probe us-east", "run_verb", regions.VerbOptions("probe", "us-east", as_json=False)),
    (
        "regions add us-east/b --url http://h:1 --engine vllm --model m --model n --max-inflight 8",
        "run_add",
        regions.AddOptions(
            "us-east/b",
            None,
            {},
            {"url": "http://h:1", "engine": "vllm", "models": ["m", "n"], "max_inflight": 8},
        ),
    ),
    (
        "regions add eu --jurisdiction eu --location 50.1,8.7 -c other.toml",
        "run_add",
        regions.AddOptions("eu", "other.toml", {"jurisdiction": "eu", "location": "50.1,8.7"}, {}),
    ),
    ("regions remove us-east/a", "run_remove", regions.RemoveOptions("us-east/a", None)),
    (
        "regions set us-east/a max_inflight=4 engine=vllm",
        "run_set",
        regions.SetOptions("us-east/a", ("max_inflight=4", "engine=vllm"), None),
    ),
    (
        "traffic list --model m --status 5xx --since 5m -n 3",
        "run_list",
        traffic.ListOptions(Filters("m", None, None, "5xx"), 3, "5m", as_json=False),
    ),
    ("traffic tail --tenant t --json", "run_tail", traffic.TailOptions(Filters(tenant="t"), as_json=True)),
    ("traffic show req-1", "run_show", traffic.ShowOptions("req-1", as_json=False)),
    ("traffic stats --window 5m", "run_stats", traffic.StatsOptions("5m", as_json=False)),
    ("keys create me --plan tiny --json", "run_create", keys.CreateOptions("me", "tiny", None, as_json=True)),
    ("keys list --all", "run_list", keys.ListOptions(revoked=True, as_json=False)),
    ("keys show key_1", "run_show", keys.KeyOptions("key_1", as_json=False)),
    ("keys set me --plan p", "run_set", keys.SetOptions("me", {"plan": "p"}, as_json=False)),
    ("keys set me --expires 30d", "run_set", keys.SetOptions("me", {"expires": "30d"}, as_json=False)),
    ("keys rotate me", "run_rotate", keys.RotateOptions("me", None, as_json=False)),
    ("keys rotate me --overlap 7d", "run_rotate", keys.RotateOptions("me", "7d", as_json=False)),
    ("keys revoke me", "run_revoke", keys.KeyOptions("me", as_json=False)),
    ("quota show", "run_show", quota.ShowOptions(None, as_json=False)),
    ("quota reset me", "run_reset", quota.ResetOptions("me", as_json=False)),
    ("quota top --day -n 5", "run_top", spending.TopOptions(None, day=True, of=None, limit=5, as_json=False)),
    ("quota export --month 2026-11", "run_export", spending.ExportOptions("2026-11", "tenant,model", as_json=False)),
    (
        "chaos start us-east --cut-after 3 --for 5m",
        "run_start",
        chaos.StartOptions("us-east", {"fault": "cut", "after_tokens": 3}, 1, None, None, "5m", as_json=False),
    ),
    (
        "chaos start --key key_1 --slow 3 --share 20%",
        "run_start",
        chaos.StartOptions(None, {"fault": "slow", "factor": 3.0}, 1, "key_1", "20%", "60s", as_json=False),
    ),
    ("chaos clear", "run_stop", chaos.StopOptions(None, as_json=False)),
    ("chaos stop --json", "run_stop", chaos.StopOptions(None, as_json=True)),
    ("chaos list", "run_list", chaos.ListOptions(as_json=False)),
    (
        "bench -n 3 --rate 2",
        "run_bench",
        bench.BenchOptions(None, None, None, BENCH | {"requests": 3, "rate": 2.0}, False),
    ),
    ("config init", "run_init", config.InitOptions("regions.toml", force=False)),
    (
        "config init r.toml --engine http://h:1 --engine eu=http://h:2 --region us --jurisdiction us",
        "run_init",
        config.InitOptions("r.toml", False, ("http://h:1", "eu=http://h:2"), "us", ("us",)),
    ),
    ("config apply new.toml --yes", "run_apply", config_apply.ApplyOptions("new.toml", True, False)),
    ("config rollback 2 -y", "run_rollback", config_apply.RollbackOptions(2, False, True, False)),
    ("config rollback --list --json", "run_rollback", config_apply.RollbackOptions(1, True, False, True)),
    ("doctor -c r.toml --json", "run_doctor", doctor.DoctorOptions("r.toml", True)),
    ("config check --strict", "run_check", config.CheckOptions("regions.toml", True, as_json=False, strict=True)),
    ("config check x.toml --no-secrets", "run_check", config.CheckOptions("x.toml", secrets=False, as_json=False)),
    ("config show --json", "run_show", config.ShowOptions(as_json=True)),
    ("config diff", "run_diff", config.DiffOptions(None, as_json=False)),
    ("config diff x.toml", "run_diff", config.DiffOptions("x.toml", as_json=False)),
    ("config reload", "run_reload", config.ReloadOptions(as_json=False)),
    ("config schema", "run_schema", config.SchemaOptions()),
    ("config schema --json", "run_schema", config.SchemaOptions()),
    (
        "explain req-1",
        "run_explain",
        explain.ExplainOptions("req-1", {"messages": [{"role": "user", "content": "Hello"}]}, as_json=False),
    ),
    (
        "explain req-1 --without us-east --without eu-west/a --add us-west/z=us-west/a --scale 2 --json",
        "run_explain",
        explain.ExplainOptions(
            "req-1",
            {"messages": [{"role": "user", "content": "Hello"}]},
            as_json=True,
            what_if={"without": ["us-east", "eu-west/a"], "add": ["us-west/z=us-west/a"], "scale": 2.0},
        ),
    ),
    (
        "plan t.csv --growth 1.5 --target-ttft 300ms --percentile 99 --regions r.toml --limit 9 --most 4 --runs 7 --json",
        "run_plan",
        plan.PlanOptions(*("t.csv", 1.5, "300ms", 99.0, "r.toml", "h100-llama-3.1-8b", 9, 4, 7, 1, None), as_json=True),
    ),
    (
        "explain --model m --prompt p --region r --residency eu --residency us --policy p2c --max-tokens 9",
        "run_explain",
        explain.ExplainOptions(
            None,
            {
                "model": "m",
                "max_tokens": 9,
                "region": "r",
                "residency": ["eu", "us"],
                "policy": "p2c",
                "messages": [{"role": "user", "content": "p"}],
            },
            as_json=False,
        ),
    ),
    (
        "chat hello --model m --url http://h --key k --max-tokens 5 --region r --residency eu --explain",
        "run_chat",
        chat.ChatOptions("hello", "m", "http://h", "k", 5, "r", "eu", explain=True, as_json=False),
    ),
    (
        "serve -c x.toml --listen 127.0.0.1:1 --admin 127.0.0.1:2 --policy p2c --log-format json",
        "run_serve",
        serve.ServeOptions("x.toml", "127.0.0.1:1", "127.0.0.1:2", "p2c", "json"),
    ),
    (
        "sim engine --port 0 --model m --engine sglang --profile demo --rtt-ms 90",
        "run_engine",
        sim.EngineOptions(0, "m", "127.0.0.1", "sglang", "demo", 90.0, 0, None),
    ),
    (
        "sim fleet --seen-from us-east --backends 1 --first-port 9000",
        "run_fleet",
        sim.FleetOptions("llama-3.1-8b", "vllm", "demo", "us-east", 1, 9000, "127.0.0.1"),
    ),
    ("demo --once --prompts 1", "run_demo", demo.DemoOptions(True, False, None, None, 1)),
    ("ctx list --json", "run_list", ctx.LookOptions(True)),
    ("ctx show", "run_show", ctx.LookOptions(False)),
    ("ctx use edge-2", "run_use", ctx.NameOptions("edge-2")),
    ("ctx remove edge-2", "run_remove", ctx.NameOptions("edge-2")),
    (
        "ctx add edge-2 --admin-url http://e:1 --token-file t --use",
        "run_add",
        ctx.AddOptions(NamedRouter("edge-2", "http://e:1", "t"), None, False, True),
    ),
    ("demo --real --port 8081", "run_demo", demo.DemoOptions(False, True, 8081, None, 3)),
]


@pytest.mark.parametrize(("line", "command", "options"), CASES, ids=[case[0] for case in CASES])
def test_what_is_typed_is_what_runs(line: str, command: str, options: Any) -> None:
    assert typed(*line.split()).ran == (command, options)


def test_every_command_is_parsed_here() -> None:
    from typer.main import get_command

    from cli.docs import commands

    known = {name.removeprefix("router ") for name, _ in commands(get_command(build()), "router")}
    parsed = {
        " ".join(words[:2]) if " ".join(words[:2]) in known else words[0] for words in (c[0].split() for c in CASES)
    }
    assert known - parsed == {"policies list", "replay"}, "run as programs in test_program and test_replay"


def test_the_connection_may_be_named_before_or_after_the_command() -> None:
    before = typed("--admin-url", "http://a:1", "--admin-token", "t", "status")
    assert (before.admin_url, before.admin_token) == ("http://a:1", "t")
    both = typed("--admin-url", "http://a:1", "status", "--admin-url", "http://b:2")
    assert both.admin_url == "http://b:2"
    named = typed("--admin-url", "http://a:1", "status", "--context", "b")
    assert (named.admin_url, named.context_name) == (None, "b")
    named = typed("--context", "a", "status", "--admin-url", "http://b:2")
    assert (named.admin_url, named.context_name) == ("http://b:2", None)


def test_the_environment_names_file_and_key() -> None:
    assert typed("config", "check", env={"ROUTER_CONFIG": "env.toml"}).ran[1].path == "env.toml"  # type: ignore[index]
    options = typed("chat", "hi", env={"ROUTER_URL": "http://e", "ROUTER_API_KEY": "k"}).ran[1]  # type: ignore[index]
    assert (options.url, options.key) == ("http://e", "k")


@pytest.mark.parametrize(
    "line",
    ["regions", "regions show", "regions nothing", "status --nothing", "traffic list -n 0", "serve --log-format x"],
)
def test_a_wrong_line_is_a_usage_error(line: str) -> None:
    result = CliRunner().invoke(build(called(line.split(), {})), line.split(), obj=Recorder())
    assert result.exit_code == Exit.USAGE
    assert "Usage:" in result.output


def test_every_simulated_engine_can_be_started() -> None:
    assert {engine.value for engine in sim.Engine} == set(SHAPES)
