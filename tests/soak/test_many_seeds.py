"""A hundred thousand scenarios: half an hour on a few cores. ``SEEDS_FIRST`` begins elsewhere, ``SEEDS`` plays fewer."""

from __future__ import annotations

import os

import pytest

from sim.seeds.__main__ import main


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_scenario_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--first", os.environ.get("SEEDS_FIRST", "0"), "--scenarios", os.environ.get("SEEDS", "100000")]
    status = main(options)
    said = capsys.readouterr().out
    with capsys.disabled():
        print(said)
    assert status == 0, said
