"""Where every router begins: alone, or with workers."""

from __future__ import annotations

import logging
import os
import signal
import sys

import uvloop

from router import signals, stdio
from router.app import App
from router.config import Config, alarms, warnings
from router.errors import ConfigError
from router.store.base import StoreError
from router.telemetry import logs
from router.telemetry.writer import LineWriter, StreamSink
from router.wire.descriptors import raise_limit
from router.wire.listeners import ListenError, Listeners
from router.workers.crew import StartError
from router.workers.parent import Parent

_log = logging.getLogger("router")


def run(config: Config, *, log_format: str = "auto") -> int:
    """Run a router until it is told to stop. Returns the exit code. ``log_format``: auto, json or human."""
    stdio.keep_open()
    raise_limit()
    human = log_format == "human" or (log_format == "auto" and sys.stderr.isatty())
    writer = LineWriter(StreamSink(2), name="log", is_log=True)
    undo = logs.set_up(writer, human=human)
    listeners: Listeners | None = None
    try:
        listeners = taken = Listeners.open(config, os.environ)
        config = taken.in_force(config)
        for alarm in alarms(config):
            _log.error("%s", alarm)
        for warning in warnings(config):
            _log.warning("%s", warning)

        async def serve() -> None:
            try:
                if config.router.workers == 1:
                    await App(config, taken, access=writer, human=human).serve()
                else:
                    await Parent(config, taken, human=human).run()
            finally:
                signals.ignore(signal.SIGTERM, signal.SIGINT)

        uvloop.run(serve())
    except ConfigError as error:
        for problem in error.problems:
            _log.error("%s", problem)
        return 1
    except (ListenError, StoreError, StartError) as error:
        _log.error("%s", error)
        return 1
    finally:
        if listeners is not None:
            listeners.close()
        undo()
        writer.close()
    return 0
