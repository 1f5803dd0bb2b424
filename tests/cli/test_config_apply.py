"""config apply and rollback, at a router that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Done
from tests.support.cli import router as program
from tests.support.router import RouterProcess, Site


@pytest.fixture(scope="module")
def served() -> Iterator[RouterProcess]:
    with RouterProcess([Site("us", "a", "http://127.0.0.1:1", models=["m"])], wait=None) as process:
        yield process


@pytest.fixture
def fresh(served: RouterProcess) -> RouterProcess:
    served.write_config()
    assert run(served, "config", "reload").code == 0
    return served


def run(process: RouterProcess, *words: str) -> Done:
    return program(*words, cwd=process.folder, env={"ROUTER_ADMIN_URL": process.admin})


def changed(process: RouterProcess, inflight: int) -> Path:
    new = process.folder / f"new{inflight}.toml"
    new.write_text(process.file.read_text().replace("url =", f"max_inflight = {inflight}\nurl ="))
    return new


def test_a_file_is_put_in_force_and_taken_back(fresh: RouterProcess) -> None:
    before = fresh.file.read_text()
    new = changed(fresh, 7)
    refused = run(fresh, "config", "apply", str(new))
    assert (refused.code, fresh.file.read_text()) == (2, before)
    assert "--yes" in refused.err
    assert "max_inflight: 256 -> 7" in refused.out

    done = run(fresh, "config", "apply", str(new), "--yes")
    assert done.code == 0, done
    assert "is in force" in done.out
    assert fresh.file.read_text() == new.read_text()
    running = fresh.ask_admin("/admin/v1/config")
    assert running["config"]["regions"][0]["backends"][0]["max_inflight"] == 7
    assert "runs this already" in run(fresh, "config", "apply", str(new)).out

    listed = json.loads(run(fresh, "config", "rollback", "--list", "--json").out)
    assert Path(listed["data"][0]["file"]).read_text() == before
    told = json.loads(run(fresh, "config", "rollback", "--yes", "--json").out)
    assert (told["changed"], told["refused"], told["pending"]) == (True, None, [])
    assert fresh.file.read_text() == before
    assert run(fresh, "config", "rollback", "--yes").code == 0
    assert fresh.file.read_text() == new.read_text(), "a second rollback undoes the first"
    assert run(fresh, "config", "rollback", "99", "--yes").code == 2


def test_a_file_with_a_problem_changes_nothing(fresh: RouterProcess) -> None:
    before = fresh.file.read_text()
    bad = fresh.folder / "bad.toml"
    bad.write_text(before.replace("[[regions]]", "[[regins]]", 1))
    done = run(fresh, "config", "apply", str(bad), "--yes")
    assert (done.code, fresh.file.read_text()) == (2, before)
    assert f"{bad}:" in done.err
    assert 'did you mean "regions"' in done.err
    assert fresh.ask_admin("/admin/v1/status")["router"]["config_refused"] is None


def test_what_waits_for_a_restart_is_said_everywhere(fresh: RouterProcess) -> None:
    new = fresh.folder / "moved.toml"
    new.write_text(fresh.file.read_text().replace(f'listen = "{fresh.listen}"', 'listen = "127.0.0.1:2"'))
    done = run(fresh, "config", "apply", str(new), "--yes")
    assert "takes effect at the next start" in done.out
    assert "pending until the router is restarted" in done.err
    for command in (("config", "diff"), ("config", "show")):
        assert "router.listen" in run(fresh, *command).err, command
    assert "pending until restart: router.listen" in run(fresh, "status").out
    assert json.loads(run(fresh, "config", "diff", "--json").out)["pending"]


def test_a_text_that_was_refused_is_not_one_to_go_back_to() -> None:
    with RouterProcess([Site("us", "a", "http://127.0.0.1:1", models=["m"])], wait=None, errors_allowed=True) as r:
        _refused_text(r)


def _refused_text(fresh: RouterProcess) -> None:
    good = fresh.file.read_text()
    assert run(fresh, "config", "apply", str(changed(fresh, 11)), "--yes").code == 0
    in_force = fresh.file.read_text()
    fresh.file.write_text(in_force.replace("[[regions]]", "[[regins]]", 1))
    back = run(fresh, "config", "rollback", "--yes")
    assert back.code == 0, back
    assert fresh.file.read_text() == in_force
    listed = json.loads(run(fresh, "config", "rollback", "--list", "--json").out)["data"]
    assert all("[[regins]]" not in Path(entry["file"]).read_text() for entry in listed)
    assert Path(listed[0]["file"]).read_text() == good
    (kept,) = fresh.folder.glob("*.generations/*.refused")
    assert "[[regins]]" in kept.read_text(), "what somebody has written is not lost"


def test_going_back_to_how_it_started_waits_for_nothing(fresh: RouterProcess) -> None:
    new = fresh.folder / "moved.toml"
    new.write_text(fresh.file.read_text().replace(f'listen = "{fresh.listen}"', 'listen = "127.0.0.1:2"'))
    assert run(fresh, "config", "apply", str(new), "--yes").code == 0
    done = run(fresh, "config", "rollback", "--yes")
    assert "as the router runs since its start" in done.out
    assert "next start" not in done.out
    assert "pending" not in done.err


def test_the_routers_file_is_the_one_that_is_edited(fresh: RouterProcess, tmp_path: Path) -> None:
    env = {"ROUTER_ADMIN_URL": fresh.admin}
    done = program("regions", "set", "us/a", "max_inflight=9", cwd=tmp_path, env=env)
    assert done.code == 0, done
    assert "max_inflight = 9" in fresh.file.read_text()
    before = fresh.file.read_text()
    refused = program("regions", "set", "us/a", "key_env=NOT_SET_ANYWHERE", cwd=tmp_path, env=env)
    assert (refused.code, fresh.file.read_text()) == (2, before)
    assert "NOT_SET_ANYWHERE" in refused.err
    assert fresh.ask_admin("/admin/v1/status")["router"]["config_refused"] is None
    dead = program("regions", "add", "us/b", "--url", "http://127.0.0.1:1", cwd=tmp_path, env=env)
    assert (dead.code, fresh.file.read_text()) == (1, before)
    assert "--force" in dead.err
    assert program("regions", "add", "us/b", "--url", "http://127.0.0.1:1", "--force", cwd=tmp_path, env=env).code == 0
    assert [b["name"] for b in fresh.ask_admin("/admin/v1/config")["config"]["regions"][0]["backends"]] == ["a", "b"]
