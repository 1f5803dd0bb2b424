"""Signals reach the loop, and do nothing once they are ignored: also between the end of the loop and that of the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROCESS = """
import asyncio, os, signal, sys
import uvloop
from router import signals

async def main():
    heard = asyncio.Queue()
    signals.on(signal.SIGTERM, signal.SIGHUP, act=lambda: heard.put_nowait(1))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
        await asyncio.wait_for(heard.get(), 10)
    signals.ignore(signal.SIGTERM, signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard.empty()

with asyncio.Runner(loop_factory=sys.modules[sys.argv[1]].new_event_loop) as runner:
    runner.run(main())
for number in (signal.SIGTERM, signal.SIGHUP):
    os.kill(os.getpid(), number)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_signals_reach_the_loop_and_then_nobody(loop: str) -> None:
    ended = subprocess.run([sys.executable, "-c", _PROCESS, loop], capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
