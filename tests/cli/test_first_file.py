"""``config init --engine``: the first file for engines that are there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import first_file
from cli.commands import config
from cli.errors import CliError, Exit
from cli.first_file import Named, named, of_region
from router.config import load, parse
from router.observe.survey import Surveyed
from sim.fleet import SimFleet
from sim.geography import DEFAULT_REGIONS
from tests.cli.conftest import Play

WELL = Surveyed(engine="vllm", models=("m", "n"), kv_tokens=1234.0)


def test_an_engine_with_and_without_its_region() -> None:
    assert named("us-east=http://h:1", "eu") == Named("us-east", "http://h:1")
    assert named("http://h:1/v1", "eu") == Named("eu", "http://h:1")
    assert named("http://h:1/?a=http://b", None) == Named("local", "http://h:1/?a=http://b")
    assert (of_region("us-east=us"), of_region("eu")) == (("us-east", "us"), ("", "eu"))


@given(st.lists(st.sampled_from(["us", "eu"]), min_size=1, max_size=60), st.sampled_from([WELL, Surveyed(problem="x")]))
def test_whatever_is_named_the_file_is_valid(regions: list[str], found: Surveyed) -> None:
    engines = [(Named(region, f"http://h:{port}"), found) for port, region in enumerate(regions, 1)]
    made = parse(first_file.text(engines, {"us": "us"}), "r.toml", whole=True)
    assert sorted(b.url for b in made.backends) == sorted(n.url for n, _ in engines)
    assert {r.spec.name: r.spec.jurisdiction for r in made.regions} == {r: "us" if r == "us" else None for r in regions}
    if found is WELL:
        assert {b.models for b in made.backends} == {("m", "n")}


def test_the_program_asks_the_engines(tmp_path: Path, play: Play) -> None:
    path = tmp_path / "r.toml"
    with SimFleet(DEFAULT_REGIONS[:1], rtt_ms={"us-east": 0}) as fleet:
        urls = [backend.url for backend in fleet.backends]
        options = config.InitOptions(str(path), False, (f"us-east={urls[0]}", urls[-1]), "eu", ("us-east=us",))
        config.run_init(play.context, options)
    made = load(path)
    assert [(r.spec.name, r.spec.jurisdiction) for r in made.regions] == [("us-east", "us"), ("eu", None)]
    assert {(b.engine, b.models) for b in made.backends} == {("vllm", ("llama-3.1-8b",))}
    assert "KV cache" in path.read_text()
    assert "KV cache of" in play.err


def test_an_engine_that_does_not_answer(tmp_path: Path, play: Play) -> None:
    path = tmp_path / "r.toml"
    dead = ("http://127.0.0.1:1",)
    with pytest.raises(CliError, match="nothing was written") as caught:
        config.run_init(play.context, config.InitOptions(str(path), False, dead))
    assert (caught.value.code, path.exists()) == (Exit.FAILED, False)
    config.run_init(play.context, config.InitOptions(str(path), True, dead))
    assert [b.url for b in load(path).backends] == list(dead)
    assert "refused" in path.read_text()


def test_flags_that_make_no_file(tmp_path: Path, play: Play) -> None:
    options = config.InitOptions(str(tmp_path / "r.toml"), True, ("http://127.0.0.1:1",), None, ("not a name",))
    with pytest.raises(CliError, match="nothing was written") as caught:
        config.run_init(play.context, options)
    assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize("typed", ["us=10.0.0.1:8000", "us=h", "10.0.0.1:8000"])
def test_an_engine_without_its_scheme_is_told_what_to_write(typed: str, tmp_path: Path, play: Play) -> None:
    host = typed.removeprefix("us=")
    with pytest.raises(CliError) as refused:
        config.run_init(play.context, config.InitOptions(str(tmp_path / "new.toml"), False, (typed,)))
    assert f'write "http://{host}"' in refused.value.message
