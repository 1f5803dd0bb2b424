"""Scenarios from seeds: the production core among generated troubles keeps every rule.

A failure prints the command that replays it step by step. ``make soak`` plays 100 000.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import settings

from sim.seeds.__main__ import main, play_all, replay_command
from sim.seeds.scenario import part_of, scenario_of

#: 40 at a time; 320 with the usual effort
_CHUNKS = settings().max_examples * 8 // 15


@pytest.mark.parametrize("chunk", range(_CHUNKS))
def test_no_scenario_breaks_a_rule(chunk: int) -> None:
    failures = play_all(range(40 * chunk, 40 * chunk + 40))
    assert not failures, "\n".join(
        f"seed {seed}: {what}\n  {replay_command(scenario_of(seed))}" for seed, what in failures
    )


def test_a_seed_gives_the_same_steps_in_every_process() -> None:
    """Also where strings hash differently."""
    for seed in ("7", "12"):
        command = [sys.executable, "-m", "sim.seeds", "--seed", seed, "-v"]
        first, second = (
            subprocess.run(command, env={"PYTHONHASHSEED": salt}, capture_output=True, check=True).stdout
            for salt in ("1", "2")
        )
        assert first == second
        assert first.count(b"\n") > 20


def test_a_part_is_replayed_by_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    whole = scenario_of(3)
    assert replay_command(whole) == "python -m sim.seeds --seed 3 -v"
    numbers = sorted(ask.number for ask in whole.asks)[:2]
    command = replay_command(part_of(whole, numbers, ()))
    assert command == f"python -m sim.seeds --seed 3 --requests {numbers[0]},{numbers[1]} --troubles none -v"
    assert main(command.split()[3:]) == 0
    shown = capsys.readouterr().out
    assert f"request {numbers[0]} comes" in shown
    assert "*" not in shown


def test_the_rate_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scenarios", "3", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.startswith("3 scenarios in ")
