"""A failed test that leaves connections open ends, and the tests after it pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.router import ROOT

_TESTS = """
import asyncio, gc
import pytest

async def connect():
    async def serve(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, await asyncio.open_connection(*server.sockets[0].getsockname())

async def test_fails():
    opened = await connect()
    raise AssertionError("on purpose")

def test_collects_what_that_left():
    gc.collect()

async def test_fails_where_its_server_waits_for_its_clients():
    server, opened = await connect()
    async with server:
        raise AssertionError("on purpose")

@pytest.fixture
async def broken():
    opened = await connect()
    raise AssertionError("on purpose")
    yield

async def test_has_a_fixture_that_fails(broken):
    pass

async def test_collects_the_rest():
    gc.collect()
"""


def test_only_the_tests_that_fail_do(tmp_path: Path) -> None:
    file = tmp_path / "test_failing.py"
    file.write_text(_TESTS)
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest"]
    # These failures are wanted: a verdict on the project must not list them.
    env = {name: value for name, value in os.environ.items() if name != "FAILED_TESTS"}
    ended = subprocess.run(
        [*command, str(file)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert "2 failed, 2 passed, 1 error" in ended.stdout, ended.stdout + ended.stderr
    assert not ended.stderr, ended.stderr
