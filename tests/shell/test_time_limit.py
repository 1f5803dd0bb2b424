"""The time limit of a test ends it wherever it waits, and the tests after it run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.router import ROOT

_TESTS = """
import asyncio, contextlib, signal, time
import pytest

def reach_the_limit_soon():  # not before what it is to end has begun, however slow the machine is
    signal.setitimer(signal.ITIMER_REAL, 0.3)

@contextlib.asynccontextmanager
async def tidied():
    reach_the_limit_soon()
    try:
        yield
    finally:
        await asyncio.sleep(0)
        print("tidied up")

async def test_waits_for_an_event():
    async with tidied():
        await asyncio.Event().wait()

async def test_waits_for_a_thread():
    async with tidied():
        await asyncio.to_thread(time.sleep, 2)

async def test_blocks_the_loop():
    async with tidied():
        time.sleep(60)

async def test_turns_in_circles():
    async with tidied():
        while True:
            await asyncio.sleep(0)

@pytest.fixture
async def endless():
    async with tidied():
        await asyncio.Event().wait()
        yield

async def test_needs_a_fixture_that_hangs(endless):
    pass

def test_has_no_loop():
    print("tidied up")
    reach_the_limit_soon()
    time.sleep(60)

async def test_is_done_in_time():
    await asyncio.sleep(0.01)
"""


def test_the_limit_is_reached_wherever_a_test_waits(tmp_path: Path) -> None:
    file = tmp_path / "test_slow.py"
    file.write_text(_TESTS)
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest", "--timeout", "60"]
    # These failures are wanted: a verdict on the project must not list them.
    env = {name: value for name, value in os.environ.items() if name != "FAILED_TESTS"}
    ended = subprocess.run(
        [*command, str(file)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert "5 failed, 1 passed, 1 error" in ended.stdout, ended.stdout + ended.stderr
    assert ended.stdout.count("Timeout (>60.0s) from pytest-timeout") >= 6, ended.stdout
    assert ended.stdout.count("\ntidied up") == 6, ended.stdout
