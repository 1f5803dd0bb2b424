"""router replay, as a program: JSON that scripts rely on, a table for people, and clear refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.journals import lived, slow_profile, small_plan, traffic

ROOT = Path(__file__).parents[2]
TRACES = ROOT / "tests" / "data" / "traces"


def router(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *args],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def mooncake() -> Path:
    return next(TRACES.glob("mooncake*.jsonl"))


def test_json_has_the_shape_that_scripts_rely_on(mooncake: Path) -> None:
    run = router("replay", str(mooncake), "--limit", "60", "--policy", "ttft,round_robin", "--json")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert [row["policy"] for row in result["policies"]] == ["ttft", "round_robin"]
    for row in result["policies"]:
        assert {
            "ttft_s_p50",
            "ttft_s_p90",
            "ttft_s_p99",
            "e2e_s_p50",
            "e2e_s_p99",
            "prefix_hit_ratio",
            "local_ratio",
            "busy_ratio",
        } <= set(row)
        assert 0 < row["ttft_s_p50"] <= row["ttft_s_p90"] <= row["ttft_s_p99"]


def test_the_same_seed_gives_the_same_answer_and_a_faster_trace_a_longer_wait(mooncake: Path) -> None:
    runs = [
        json.loads(router("replay", str(mooncake), "--limit", "60", "--policy", "p2c", "--json", *more).stdout)
        for more in ((), (), ("--scale", "4"))
    ]
    assert runs[0] == runs[1]
    assert runs[2]["trace"]["duration_s"] == pytest.approx(runs[0]["trace"]["duration_s"] / 4)
    assert runs[2]["policies"][0]["ttft_s_p90"] > runs[0]["policies"][0]["ttft_s_p90"]


def test_the_table_names_every_policy(mooncake: Path) -> None:
    run = router("replay", str(mooncake), "--limit", "40", "--policy", "ttft,nearest")
    assert run.returncode == 0, run.stderr
    assert "ttft p50" in run.stdout
    assert "nearest" in run.stdout


def test_the_world_of_a_configuration(mooncake: Path, tmp_path: Path) -> None:
    file = tmp_path / "regions.toml"
    file.write_text(
        '[router]\nregion = "a"\n[[regions]]\nname = "a"\nlocation = [38.9, -77.0]\n'
        '[[regions.backends]]\nname = "x"\nurl = "http://10.0.0.1:8000"\nengine = "vllm"\nmodels = ["m"]\n'
    )
    run = router("replay", str(mooncake), "--limit", "30", "--policy", "ttft", "--json", "--regions", str(file))
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["world"]["backends"] == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("nowhere.jsonl",), "nowhere.jsonl"),
        (("README.md",), "neither an Azure trace"),
        (("nowhere.jsonl", "--policy", "luck"), 'no policy "luck"'),
        (("journal",), "journal"),
        (("journal", "--regions", "nowhere.toml"), "there is no nowhere.toml"),
        (("tests/data/README.md", "--regions", "README.md"), "README.md has 1 problem"),
    ],
)
def test_refusals_say_what_is_wrong(args: tuple[str, ...], says: str) -> None:
    run = router("replay", *args)
    assert run.returncode == 2
    assert says in run.stderr
    assert "Traceback" not in run.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A journal, and what its router has learned."""
    folder = tmp_path_factory.mktemp("journal")
    learned, records = lived(small_plan(slow_profile()), traffic(5.0, 60.0))
    (folder / "j.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "learned.json").write_text(json.dumps(learned))
    return str(folder / "j.jsonl"), "--learned", str(folder / "learned.json")


def test_a_journal_on_the_fleet_that_was_measured(files: tuple[str, ...]) -> None:
    changes = ("--without", "us-east", "--add", "us-east/z=us-east/a", "--scale", "1.5")
    run = router("replay", *files, *changes, "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert [row["row"] for row in told["rows"]] == [
        "as recorded",
        "replayed",
        "without us-east",
        "with us-east/z like us-east/a",
        "1.5 times the requests",
        "without us-east, with us-east/z like us-east/a, 1.5 times the requests",
    ]
    assert [row["measured"] for row in told["rows"]] == [True] + [False] * 5
    assert told["error"]["worst"] <= told["error"]["max"] == 0.25
    assert told["refused"] is None


def test_the_table_begins_with_what_was_recorded(files: tuple[str, ...]) -> None:
    run = router("replay", *files, "--without", "eu-central", "--policy", "nearest")
    assert run.returncode == 0, run.stderr
    first, second, *others = [line for line in run.stdout.splitlines() if " ms" in line or " s " in line][:4]
    assert first.startswith("as recorded")
    assert second.startswith("replayed")
    assert others[0].startswith("policy nearest")
    assert others[1].startswith("without eu-central")
    for words in ("played again: first token off by", "± decode", "measured:", "assumed:"):
        assert words in run.stdout


def test_what_is_too_far_off_is_not_compared(files: tuple[str, ...]) -> None:
    run = router("replay", *files, "--without", "us-east", "--max-error", "0.0001")
    assert run.returncode == 1
    assert "nothing is compared: playing what really ran is off by" in run.stderr
    assert "as recorded" in run.stdout
    assert "without us-east" not in run.stdout
    as_json = router("replay", *files, "--max-error", "0.0001", "--json")
    assert as_json.returncode == 1
    assert "off by" in json.loads(as_json.stdout)["refused"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--without", "mars"), 'there is no backend or region "mars"'),
        (("--add", "us-east/z"), "NEW=LIKE"),
        (("--regions", "regions.toml"), "assumed engines"),
    ],
)
def test_wrong_changes_are_told(files: tuple[str, ...], args: tuple[str, ...], says: str) -> None:
    run = router("replay", *files, *args)
    assert run.returncode == 2
    assert says in run.stderr
