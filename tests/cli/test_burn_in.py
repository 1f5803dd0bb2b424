"""router regions burn-in: the verdict first, then each check with its figure and bar."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.commands import burn_in
from cli.commands.burn_in import BurnInOptions
from cli.errors import CliError, Exit
from tests.cli.conftest import Json, Play

PATH = "/admin/v1/backends/us-east/b/burn-in"


def check(name: str, *, passed: bool = True, figure: str = "3 ms at 4", bar: str = "9 ms, by us-east/a") -> Json:
    return {"name": name, "passed": passed, "figure": figure, "bar": bar}


def step(requests: int) -> Json:
    beside = {"ttft_s": 0.02, "itl_s": 0.002}
    numbers = {"ttft_s": 0.05, "itl_s": 0.004, "output_tokens_per_s": 800.0}
    return {"requests": requests, "answers": 3, "errors": 0, "beside": beside} | numbers


def result(state: str, *checks: Json, backend: str = "us-east/b", stage: str = "") -> Json:
    report: Any = None
    if checks:
        report = {
            "passed": state == "passed",
            "beside": "us-east/a",
            "checks": list(checks),
            "steps": [step(1), step(8)],
        }
    return {"backend": backend, "state": state, "by": "r", "age_s": 1.0, "stage": stage, "report": report}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burn_in, "_POLL_S", 0.0)


def run(play: Play, name: str = "us-east/b", *, as_json: bool = False, timeout_s: float = 5.0) -> Exit:
    return burn_in.run_burn_in(play.context, BurnInOptions(name, timeout_s, as_json))


def test_one_that_passes(play: Play) -> None:
    play.admin.answers = {
        ("POST", PATH): result("running", stage="4 at once"),
        ("GET", PATH): result("passed", check("first token"), check("errors", figure="0 of 33")),
    }
    assert run(play) is Exit.OK
    first, *rest = play.out.splitlines()
    assert first == "us-east/b  ● passed  beside us-east/a"
    text = "\n".join(rest)
    assert "first token" in text
    assert "9 ms, by us-east/a" in text
    assert "50 ms | 20 ms" in text
    assert "us-east/b: 4 at once" in play.err


def test_one_that_fails_says_what_first(play: Play) -> None:
    bad = check("errors", passed=False, figure="2 of 33: status [500]")
    play.admin.answers = {("POST", PATH): result("failed", check("first token"), bad)}
    assert run(play) is Exit.FAILED
    assert play.out.splitlines()[0] == "us-east/b  ● failed  errors · beside us-east/a"
    assert "status [500]" in play.out


def test_json_is_the_answer_of_the_router(play: Play) -> None:
    play.admin.answers = {("POST", PATH): result("failed", check("errors", passed=False))}
    assert run(play, as_json=True) is Exit.FAILED
    assert json.loads(play.out)["report"]["passed"] is False
    assert play.err == ""


def test_a_region_is_measured_backend_by_backend(play: Play) -> None:
    names = ["us-east/a", "us-east/b"]
    play.admin.answers = {
        ("GET", "/admin/v1/regions"): {"data": [{"name": "us-east", "backends": [{"name": n} for n in names]}]},
        **{("POST", f"/admin/v1/backends/{n}/burn-in"): result("passed", check("errors"), backend=n) for n in names},
    }
    assert run(play, "us-east") is Exit.OK
    assert [line.split()[0] for line in play.out.splitlines() if "beside us-east/a" in line] == names
    with pytest.raises(CliError, match='no region with backends "us-west"'):
        run(play, "us-west")


def test_waiting_has_an_end(play: Play) -> None:
    play.admin.answers = {("POST", PATH): result("running"), ("GET", PATH): result("running")}
    with pytest.raises(CliError, match="is not over"):
        run(play, timeout_s=0.0)
