"""``router doctor`` as a program: a world that is well, and one that is not."""

from __future__ import annotations

import json
from pathlib import Path

from sim.fleet import SimFleet
from sim.geography import DEFAULT_REGIONS
from tests.support.cli import router
from tests.support.router import RouterProcess, Site

DEAD = '[[regions]]\nname = "us"\n[[regions.backends]]\nname = "a"\nurl = "http://127.0.0.1:1"\n'


def test_a_world_that_is_well(tmp_path: Path) -> None:
    with SimFleet(DEFAULT_REGIONS[:1], rtt_ms={"us-east": 0}) as fleet:
        site = Site("us-east", "a", fleet.backends[0].url, models=["llama-3.1-8b"])
        with RouterProcess([site]) as served:
            served.file.chmod(0o644)
            done = router("doctor", "--json", cwd=tmp_path, env={"ROUTER_ADMIN_URL": served.admin})
            told = json.loads(done.out)
            assert (done.code, told["ok"]) == (0, True), told
            areas = [line["area"] for line in told["data"]]
            assert list(dict.fromkeys(areas)) == ["file", "store", "backends", "descriptors", "router"]
            assert told["data"][0]["what"] == str(served.file), "the router's own file, without being named"
            assert not [line for line in told["data"] if line["state"] == "fail"]


def test_a_world_that_is_not(tmp_path: Path) -> None:
    (tmp_path / "regions.toml").write_text(DEAD)
    done = router("doctor", cwd=tmp_path)
    assert done.code == 1
    (line,) = (line for line in done.out.splitlines() if "us/a" in line and "fail" in line)
    assert "refused" in line
    assert "router regions probe us/a" in done.out
    assert "1 failure" in done.err
    told = json.loads(router("doctor", "--json", cwd=tmp_path).out)
    assert {"ok", "fail"} <= {line["state"] for line in told["data"]}
    assert all(line["advice"] for line in told["data"] if line["state"] != "ok")


def test_a_file_that_is_named_says_which_router_is_asked(tmp_path: Path) -> None:
    with RouterProcess([Site("us", "a", "http://127.0.0.1:1", models=["m"])], wait=None) as served:
        told = json.loads(
            router("doctor", "-c", str(served.file), "--json", cwd=tmp_path, env={"ROUTER_ADMIN_URL": ""}).out
        )
        (line, *_) = (line for line in told["data"] if line["area"] == "router")
        assert "none runs there" not in line["text"], "nothing listens at the default address"
        env = {"ROUTER_ADMIN_URL": "http://127.0.0.1:1"}
        told = json.loads(router("doctor", "-c", str(served.file), "--json", cwd=tmp_path, env=env).out)
        (line,) = (line for line in told["data"] if line["area"] == "router")
        assert (line["what"], line["text"]) == ("http://127.0.0.1:1", "none runs there"), "what is said counts"


def test_no_file_at_all(tmp_path: Path) -> None:
    done = router("doctor", cwd=tmp_path)
    assert done.code == 1
    assert "config init" in done.out
