"""regions add | remove | set: the file keeps its comments, and a wrong change leaves it alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cli.commands import regions
from cli.errors import CliError, Exit, SilentError, StatusError
from router.config import EXAMPLE, Config, dump, load
from tests.cli.conftest import Json, Play

RELOAD = ("POST", "/admin/v1/config/reload")
CONFIG = ("GET", "/admin/v1/config")
STATUS = ("GET", "/admin/v1/status")


@pytest.fixture
def file(tmp_path: Path, play: Play) -> Path:
    """The example, and no router that runs."""
    nobody = CliError("cannot reach it", code=Exit.UNREACHABLE)
    play.admin.answers = {RELOAD: nobody, CONFIG: nobody}
    path = tmp_path / "regions.toml"
    path.write_text(EXAMPLE)
    return path


def add(play: Play, file: Path, name: str, region: Json | None = None, backend: Json | None = None) -> Config:
    regions.run_add(play.context, regions.AddOptions(name, str(file), region or {}, backend or {}, force=True))
    return load(file, secrets=False)


def change(play: Play, file: Path, name: str, *assignments: str) -> Config:
    regions.run_set(play.context, regions.SetOptions(name, assignments, str(file)))
    return load(file, secrets=False)


def without(text: str, start: str, lines: int) -> str:
    """``text`` without ``lines`` lines from the one that begins so."""
    all_lines = text.splitlines()
    at = next(i for i, line in enumerate(all_lines) if line.startswith(start))
    return "\n".join(all_lines[:at] + all_lines[at + lines :])


def test_add_a_backend_between_regions(play: Play, file: Path) -> None:
    config = add(
        play, file, "us-east/b", backend={"url": "http://10.0.0.12:8000", "engine": "vllm", "models": ["m", "n"]}
    )
    assert [b.name for b in config.backends] == ["us-east/a", "us-east/b", "eu-west/a"]
    assert config.backends[1].models == ("m", "n")
    text = file.read_text()
    added = '  [[regions.backends]]\n  name = "b"\n  url = "http://10.0.0.12:8000"\n  engine = "vllm"\n  models = ["m", "n"]\n\n'
    assert added in text
    assert text.replace(added, "") == EXAMPLE, "nothing else has changed"
    assert "added us-east/b" in play.out


def test_add_a_region_with_its_first_backend(play: Play, file: Path) -> None:
    config = add(play, file, "ap", {"jurisdiction": "jp", "location": "35.7,139.7"}, {"url": "http://10.0.0.13:8000"})
    assert config.regions[-1].spec.location == (35.7, 139.7)
    assert config.backends[-1].name == "ap/a"
    text = file.read_text()
    assert text.startswith(EXAMPLE)
    assert text[len(EXAMPLE) :].startswith('\n[[regions]]\nname = "ap"\n')


def test_add_to_a_file_without_regions(play: Play, file: Path) -> None:
    file.write_text('[router]\nname = "x"  # mine')
    config = add(play, file, "us/b", backend={"url": "http://10.0.0.13:8000"})
    assert config.backends[0].name == "us/b"
    assert file.read_text().startswith('[router]\nname = "x"  # mine\n')


def test_add_to_regions_written_in_line(play: Play, file: Path) -> None:
    file.write_text('regions = [{ name = "us", backends = [{ name = "a", url = "http://h:1" }] }]\n')
    assert [b.name for b in add(play, file, "us/b", backend={"url": "http://h:2"}).backends] == ["us/a", "us/b"]
    assert [b.name for b in add(play, file, "eu", backend={"url": "http://h:3"}).backends] == ["us/a", "us/b", "eu/a"]


def test_windows_line_ends_stay(play: Play, file: Path) -> None:
    file.write_bytes(EXAMPLE.replace("\n", "\r\n").encode())
    change(play, file, "us-east/a", "max_inflight=64")
    assert file.read_bytes().decode() == EXAMPLE.replace("max_inflight  = 256", "max_inflight  = 64").replace(
        "\n", "\r\n"
    )


@pytest.mark.parametrize(
    ("name", "region", "backend", "message"),
    [
        ("us-east", {}, {}, "there is a region us-east already"),
        ("us-east", {}, {"url": "http://h:1"}, "there is a region us-east already"),
        ("us-east/a", {}, {"url": "http://h:1"}, "there is a backend us-east/a already"),
        ("us-east/b", {"jurisdiction": "eu"}, {"url": "http://h:1"}, "there is a region us-east already"),
        ("us-east/b", {}, {}, "us-east/b is a backend and needs an address"),
        ("new", {}, {"engine": "vllm"}, "a backend needs an address"),
        ("new", {"location": "here"}, {}, "location takes a number, not 'here'"),
    ],
)
def test_what_cannot_be_added(play: Play, file: Path, name: str, region: Json, backend: Json, message: str) -> None:
    with pytest.raises(CliError) as caught:
        add(play, file, name, region, backend)
    assert (caught.value.message, caught.value.code) == (message, Exit.USAGE)
    assert file.read_text() == EXAMPLE


def test_a_router_that_hangs_is_not_taken_for_none(play: Play, file: Path) -> None:
    """It would be asked neither for what is lost nor whether it takes the file, and reads it when it goes on."""
    hangs = SilentError("does not answer", code=Exit.UNREACHABLE)
    play.admin.answers = {CONFIG: hangs, ("GET", "/admin/v1/regions/us-east/losses"): hangs}
    with pytest.raises(SilentError):
        change(play, file, "us-east/a", "max_inflight=64")
    with pytest.raises(SilentError):
        regions.run_remove(play.context, regions.RemoveOptions("us-east", str(file)))
    assert file.read_text() == EXAMPLE


def test_a_change_that_would_be_wrong_is_not_written(play: Play, file: Path) -> None:
    with pytest.raises(CliError) as caught:
        add(play, file, "us-east/b", backend={"url": "ftp://h", "engine": "vlm", "max_inflight": 0})
    assert caught.value.code is Exit.USAGE
    assert len(caught.value.details) == 3, "every problem at once"
    assert file.read_text() == EXAMPLE
    assert os.listdir(file.parent) == ["regions.toml"], "no temporary file is left"


def test_set(play: Play, file: Path) -> None:
    config = change(play, file, "us-east/a", "max_inflight=64", "models=a,b", "cost_usd_hour=", "engine=sglang")
    spec = config.backends[0]
    assert (spec.max_inflight, spec.models, spec.cost_usd_hour, spec.engine) == (64, ("a", "b"), 0.0, "sglang")
    text = file.read_text()
    assert 'engine = "sglang"                # vllm | sglang | tgi | llamacpp | openai | router' in text
    assert 'name   = "a"                   # addressed as us-east/a' in text


def test_set_on_a_region(play: Play, file: Path) -> None:
    config = change(play, file, "eu-west", "jurisdiction=ie", "location=53.35,-6.26")
    assert config.regions[1].spec.jurisdiction == "ie"
    assert config.regions[1].spec.location == (53.35, -6.26)


@pytest.mark.parametrize(
    ("name", "assignment", "message"),
    [
        ("us-east/a", "max_inflite=1", 'there is no key "max_inflite", did you mean "max_inflight"?'),
        ("us-east/a", "max_inflight", "'max_inflight' is not KEY=VALUE"),
        ("us-east/a", "max_inflight=many", "max_inflight takes a number, not 'many'"),
        ("us-east/z", "max_inflight=1", 'there is no backend "us-east/z", did you mean "us-east/a"?'),
        ("nowhere", "jurisdiction=eu", 'there is no region "nowhere"'),
        ("us-east", "backends=1", 'there is no key "backends"'),
    ],
)
def test_what_cannot_be_set(play: Play, file: Path, name: str, assignment: str, message: str) -> None:
    with pytest.raises(CliError) as caught:
        change(play, file, name, assignment)
    assert (caught.value.message, caught.value.code) == (message, Exit.USAGE)
    assert file.read_text() == EXAMPLE


def test_remove_a_region(play: Play, file: Path) -> None:
    regions.run_remove(play.context, regions.RemoveOptions("eu-west", str(file)))
    assert [r.spec.name for r in load(file, secrets=False).regions] == ["us-east"]
    assert file.read_text().rstrip() == EXAMPLE.partition('[[regions]]\nname         = "eu-west"')[0].rstrip()


def test_remove_the_only_backend(play: Play, file: Path) -> None:
    regions.run_remove(play.context, regions.RemoveOptions("us-east/a", str(file)))
    config = load(file, secrets=False)
    assert [b.name for b in config.backends] == ["eu-west/a"]
    assert [r.spec.name for r in config.regions] == ["us-east", "eu-west"]


def test_the_mode_of_the_file_stays_and_a_link_stays_a_link(play: Play, file: Path) -> None:
    file.chmod(0o640)
    link = file.parent / "link.toml"
    link.symlink_to(file)
    change(play, link, "us-east/a", "max_inflight=64")
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert load(file, secrets=False).backends[0].max_inflight == 64


def test_no_file(play: Play, tmp_path: Path) -> None:
    with pytest.raises(CliError) as caught:
        change(play, tmp_path / "regions.toml", "us-east/a", "max_inflight=64")
    assert caught.value.code is Exit.USAGE
    assert "router config init" in str(caught.value.hint)


def test_a_broken_file_is_left_to_its_owner(play: Play, file: Path) -> None:
    file.write_text("[router\n")
    with pytest.raises(CliError, match=r"regions\.toml"):
        change(play, file, "us-east/a", "max_inflight=64")
    assert file.read_text() == "[router\n"


def test_without_a_router_the_file_is_enough(play: Play, file: Path) -> None:
    change(play, file, "us-east/a", "max_inflight=64")
    assert "reads the file when it starts" in play.err


def _runs(path: Path, **changes: object) -> Json:
    return {"source": str(path), "generation": 7, "config": dump(load(path, secrets=False))} | changes


def test_a_running_router_takes_it_over(play: Play, file: Path) -> None:
    change(play, file, "us-east/a", "max_inflight=64")
    play.admin.answers = {RELOAD: {"changed": True, "generation": 7, "changes": ["x"]}, CONFIG: _runs(file)}
    change(play, file, "us-east/a", "max_inflight=64")
    assert play.out.endswith("✓ the router at http://router.test runs it, generation 7\n")


def test_routers_that_do_not_have_it_are_said(play: Play, file: Path) -> None:
    """Each router reads a file of its own."""
    change(play, file, "us-east/a", "max_inflight=64")
    told = {"differences": ["us-west/a only on edge-1"], "troubles": []}
    play.admin.answers = {RELOAD: {"changed": True}, CONFIG: _runs(file), STATUS: told}
    change(play, file, "us-east/a", "max_inflight=64")
    assert "us-west/a only on edge-1" in play.err
    assert "reads its own file" in play.err
    play.admin.answers[STATUS] = told | {"differences": []}
    before = play.err
    change(play, file, "us-east/a", "max_inflight=64")
    assert "own file" not in play.err.removeprefix(before)


def test_a_router_that_runs_another_file(play: Play, file: Path, tmp_path: Path) -> None:
    """Whatever that file is called, and even if the reload took over something else from it."""
    other = tmp_path / "elsewhere" / file.name
    play.admin.answers = {
        RELOAD: {"changed": True, "generation": 7, "changes": []},
        CONFIG: _runs(file, source=str(other)),
    }
    change(play, file, "us-east/a", "max_inflight=64")
    assert f"runs another file: {other}" in play.err
    assert "runs it" not in play.out


def test_a_router_that_refuses_the_file(play: Play, file: Path) -> None:
    refused = StatusError(422, {"message": "no", "problems": ["KEY is not set"]})
    play.admin.answers = {RELOAD: refused, CONFIG: _runs(file)}  # a router on another machine
    with pytest.raises(CliError) as caught:
        change(play, file, "us-east/a", "max_inflight=64")
    assert caught.value.message == "the file is written, but the router does not take it: no"
    assert caught.value.details == ("KEY is not set",)
    assert load(file, secrets=False).backends[0].max_inflight == 64
