"""Answers without Typer are those with it: output, errors and exit codes."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import build
from cli.errors import Exit
from cli.quick import PATHS, understood
from tests.support.admin_stand_in import StandIn
from tests.support.cli import NOWHERE, router

FLEET = {"scope": "all routers", "routers": ["a"], "silent": []}


@pytest.mark.parametrize("command", PATHS, ids=" ".join)
@pytest.mark.parametrize("case", ["well", "not ready", "refused", "unknown", "away", "no address", "no context"])
def test_typer_would_say_the_same(command: tuple[str, ...], case: str) -> None:
    answer: Any = {"router": {"ready": case != "not ready", "name": "edge é"}, "data": [], "fleet": FLEET}
    if case == "refused":
        answer = (401, {"error": {"message": "The admin token is missing or wrong."}})
    elif case == "unknown":
        answer = (404, {"error": {"message": "There is no such path."}})
    with StandIn({("GET", f"/admin/v1/{PATHS[command]}"): answer}) as admin:
        url = {"away": NOWHERE, "no address": "ftp://x"}.get(case, admin.url)
        words = [*command, "--json", *(["--context", "nowhere"] if case == "no context" else [])]
        assert understood(words) is not None
        quick = router(*words, env={"ROUTER_ADMIN_URL": url})
        slow = CliRunner().invoke(build(command[0]), words, env={"ROUTER_ADMIN_URL": url})
    assert (quick.code, quick.out, quick.err) == (slow.exit_code, slow.stdout, slow.stderr)
    unready = Exit.UNHEALTHY if command == ("status",) else Exit.OK
    codes = {"well": Exit.OK, "away": Exit.UNREACHABLE, "not ready": unready}
    assert quick.code == codes.get(case, Exit.USAGE)


def test_flags_reach_the_router() -> None:
    answer = {"router": {"ready": True}}
    with StandIn({("GET", "/admin/v1/status"): answer}) as admin:
        assert router("status", "--router", "edge-2", "--json", "--admin-url", admin.url).code == 0
        assert router("--admin-url", admin.url, "status", "--json").code == 0
        assert [query for _, _, query, _ in admin.asked] == [{"router": "edge-2"}, {}]


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "statu --json",
        "status --json --help",
        "status --json x",
        "status --json --router",
        "status --json --router --quiet",
        "status --json --router a --router b",
        "status --json --admin-url=http://a:1",
        "status --json --admin-url a --context b",
        "status --json --timeout 5",
        "routers list --json --router a",
        "keys list --json",
        "--admin-url a status --json",
        "regions --json list",
    ],
)
def test_what_is_not_certain_is_left_to_typer(line: str) -> None:
    assert understood(line.split()) is None
