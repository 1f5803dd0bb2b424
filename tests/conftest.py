"""What every room of the tests shares."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Generator

import pytest
from hypothesis import settings

from tests.support import effort, left_open, time_limit

effort.register()
# Somebody's terminal, or a test runner's, is as wide as it likes; what is written into a pipe is not.
os.environ.pop("COLUMNS", None)
settings.load_profile("ci" if "CI" in os.environ else "quick")


def pytest_sessionstart() -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C, and so would every program they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()


def pytest_collection_finish() -> None:
    """Everything that collection makes stays to the end: the garbage collector never needs to look at it."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each test that failed, where ``.ci/run`` asks for it."""
    if report.failed and (file := os.environ.get("FAILED_TESTS")):
        with open(file, "a") as out:
            print(report.nodeid, file=out)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that production runs on."""
    return {"uvloop": left_open.Loop}


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Generator[None, object, object]:
    done = yield
    time_limit.reach_loops()
    return done
