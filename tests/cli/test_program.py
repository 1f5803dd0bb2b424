"""The program as a person or a script meets it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.cli import router

HEAVY = (
    "aiohttp",
    "redis",
    "uvloop",
    "httptools",
    "prometheus_client",
    "tomlkit",
    "rich",
    "msgspec",
    "orjson",
    "asyncio",
)


def test_start_up_imports_nothing_heavy() -> None:
    """``router --help`` answers in an instant because of what it does not import; the clock would be a flaky witness."""
    code = "import sys; from cli.app import build; build(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_path()
    ).stdout
    roots = {name.partition(".")[0] for name in loaded.split()}
    assert not roots & set(HEAVY)
    names_of_engines = {"router.core", "router.core.traits", "router.core.shapes"}  # they stand in the help
    light = names_of_engines | {"router.moments", "router.land", "router.words"}
    assert not {name for name in loaded.split() if name.startswith(("router.", "sim."))} - light


def test_help_names_every_group_and_imports_no_rich() -> None:
    done = router("--help")
    assert done.code == 0
    for heading in ("Run:", "Look:", "Operate:", "Try out:"):
        assert heading in done.out
    assert "…" not in done.out


def test_version() -> None:
    from router import __version__

    assert router("--version").out == f"router {__version__}\n"


def test_policies_list_json_needs_no_router() -> None:
    done = router("policies", "list", "--json")
    found = json.loads(done.out)
    assert done.code == 0
    assert found[0]["name"] == "ttft"
    assert all(set(policy) == {"name", "summary", "source"} for policy in found)


def test_policies_list() -> None:
    lines = router("policies", "list").out.splitlines()
    assert lines[0].split() == ["policy", "what", "it", "does", "source"]
    assert lines[1].startswith("ttft ")


def test_config_from_init_to_check(tmp_path: Path) -> None:
    assert router("config", "init", cwd=tmp_path).code == 0
    done = router("config", "check", cwd=tmp_path)
    assert (done.code, done.out) == (0, "✓ regions.toml is valid: 2 regions, 2 backends\n")
    again = router("config", "init", cwd=tmp_path)
    assert again.code == 2
    assert "regions.toml exists" in again.err
    assert "--force" in again.err
    assert router("config", "init", "--force", cwd=tmp_path).code == 0


def test_config_check_prints_every_problem(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[routr]\n[router]\npolicy = "tfft"\n[timeouts]\nconnect = -1\n')
    done = router("config", "check", "bad.toml", cwd=tmp_path)
    assert done.code == 2
    assert done.out == ""
    assert "bad.toml has 3 problems" in done.err
    assert 'did you mean "router"?' in done.err
    assert done.err.count("bad.toml:") == 3, "each with its place"
    as_json = router("config", "check", "bad.toml", "--json", cwd=tmp_path)
    assert as_json.code == 2
    assert len(json.loads(as_json.out)["problems"]) == 3


def test_config_check_without_a_file(tmp_path: Path) -> None:
    done = router("config", "check", cwd=tmp_path)
    assert done.code == 2
    assert "router config init" in done.err


def test_config_check_may_leave_secrets_out(tmp_path: Path) -> None:
    (tmp_path / "regions.toml").write_text('regions = []\n[auth]\nadmin_token_env = "NOT_SET_ANYWHERE"\n')
    assert "NOT_SET_ANYWHERE" in router("config", "check", cwd=tmp_path).err
    assert router("config", "check", "--no-secrets", cwd=tmp_path).code == 0


def test_config_schema_is_json_schema() -> None:
    document = json.loads(router("config", "schema").out)
    assert document["$schema"].startswith("https://json-schema.org/")
    assert {"router", "regions"} <= set(document["properties"])


def test_regions_are_edited_with_their_comments(tmp_path: Path) -> None:
    router("config", "init", cwd=tmp_path)
    file = tmp_path / "regions.toml"
    before = file.read_text()
    words = ("regions", "add", "us-east/b", "--url", "http://127.0.0.1:1", "--engine", "sglang")
    dead = router(*words, cwd=tmp_path)
    assert (dead.code, file.read_text()) == (1, before)
    assert "--force" in dead.err
    done = router(*words, "--force", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "reads the file when it starts" in done.err
    assert router("regions", "set", "us-east/b", "max_inflight=32", cwd=tmp_path).code == 0
    assert "max_inflight = 32" in file.read_text()
    assert router("regions", "remove", "us-east/b", cwd=tmp_path).code == 0
    assert file.read_text() == before


def test_unreachable_is_exit_code_3_and_helps() -> None:
    done = router("status")
    assert done.code == 3
    assert done.out == ""
    assert "cannot reach the router's admin API" in done.err
    assert "router serve" in done.err
    assert "ROUTER_ADMIN_URL" in done.err


def test_a_usage_error_is_exit_code_2() -> None:
    done = router("regions", "lst")
    assert done.code == 2
    assert "no such command 'lst'" in done.err


def test_serve_without_a_file(tmp_path: Path) -> None:
    done = router("serve", cwd=tmp_path)
    assert done.code == 2
    assert "there is no regions.toml" in done.err
    assert "router demo" in done.err


def test_serve_checks_its_flags_like_the_file(tmp_path: Path) -> None:
    router("config", "init", cwd=tmp_path)
    done = router("serve", "--listen", "0.0.0.0:1", cwd=tmp_path)
    assert done.code == 2
    assert "anybody" in done.err, "an open router on a public address"
    assert "there is no policy" in router("serve", "--policy", "tfft", cwd=tmp_path).err


def test_serve_on_a_port_in_use_says_which_and_what_to_change(tmp_path: Path) -> None:
    router("config", "init", cwd=tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = router("serve", "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0", cwd=tmp_path)
    assert done.code == 1
    assert f"127.0.0.1:{port} is in use" in done.err
    assert "--listen" in done.err


def test_sim_engine_on_a_port_in_use() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = router("sim", "engine", "--port", str(port))
    assert done.code == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.err


def test_sim_engine_of_no_known_profile() -> None:
    done = router("sim", "engine", "--profile", "abacus")
    assert done.code == 2
    assert "demo" in done.err


def test_demo_on_a_port_in_use() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = router("demo", "--port", str(port))
    assert done.code == 2
    assert f"port {port} is in use" in done.err
    assert "--port" in done.err


def test_a_pipe_that_closes_early_is_no_error() -> None:
    command = [sys.executable, "-m", "cli", "config", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_path()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_pipe_gets_whole_lines_unless_a_width_is_asked_for() -> None:
    whole, narrow = router("policies", "list"), router("policies", "list", env={"COLUMNS": "60"})
    assert len(whole.out.splitlines()) == 1 + len(json.loads(router("policies", "list", "--json").out))
    assert max(map(len, narrow.out.splitlines())) <= 60


def _path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
