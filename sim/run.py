"""Running simulated engines: one in this process, or a fleet of child processes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.geography import RegionPlan


class PortInUseError(Exception):
    """Somebody else listens there."""

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        super().__init__(f"port {port} on {host} is in use: choose another with --port, or stop who listens there")


def run_engine(
    port: int,
    model: str,
    host: str = "127.0.0.1",
    engine: str = "vllm",
    profile: str = "demo",
    rtt_ms: float = 0.0,
    seed: int = 0,
    max_waiting: int | None = None,
    quiet: bool = False,
    until_stdin_closes: bool = False,
) -> None:
    """Serve one simulated engine until SIGTERM or SIGINT. ``port`` 0 takes a free one.

    Prints ``listening on http://HOST:PORT`` once it does. SIGTERM ends the way this kind of engine does, a second
    one or SIGINT at once. ``until_stdin_closes``: also when the standard input ends. Raises PortInUseError.
    """
    import uvloop

    uvloop.run(_serve(port, model, host, engine, profile, rtt_ms, seed, max_waiting, quiet, until_stdin_closes))


async def _serve(
    port: int,
    model: str,
    host: str,
    engine: str,
    profile: str,
    rtt_ms: float,
    seed: int,
    max_waiting: int | None,
    quiet: bool,
    until_stdin_closes: bool,
) -> None:
    from sim.engine_http import Server

    server = Server(
        model,
        engine=engine,
        profile=profile,
        rtt_ms=rtt_ms,
        seed=seed,
        max_waiting=max_waiting,
        on_crash=lambda: os._exit(137),
    )
    try:
        await server.start(host, port)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise PortInUseError(host, port) from None
        raise
    loop = asyncio.get_running_loop()
    stop: asyncio.Queue[bool] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGTERM, stop.put_nowait, True)
    loop.add_signal_handler(signal.SIGINT, stop.put_nowait, False)
    if until_stdin_closes:
        loop.add_reader(0, _watch_stdin, loop, stop.put_nowait)
    if not quiet:
        print(f"simulated {engine} serves {model} (profile {profile}, {rtt_ms:g} ms away)", file=sys.stderr)
    print(f"listening on http://{host}:{server.port}", flush=True)
    gently = await stop.get()
    if gently:
        drain = asyncio.create_task(server.drain())
        again = asyncio.create_task(stop.get())
        await asyncio.wait((drain, again), return_when=asyncio.FIRST_COMPLETED)
        for task in (drain, again):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    await server.stop()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: Callable[[bool], None]) -> None:
    if not os.read(0, 4096):
        loop.remove_reader(0)
        stop(False)


def run_fleet(
    model: str = "llama-3.1-8b",
    engine: str = "vllm",
    profile: str = "demo",
    seen_from: str | None = None,
    regions: Sequence[RegionPlan] | None = None,
    ports: Sequence[int] | None = None,
    host: str = "127.0.0.1",
) -> None:
    """Serve a whole world until SIGTERM or SIGINT, one process for each engine. Prints a regions.toml for it.

    Raises EngineStartError.
    """
    from sim.fleet import SimFleet
    from sim.geography import DEFAULT_REGIONS

    fleet = SimFleet(
        regions or DEFAULT_REGIONS,
        model=model,
        engine=engine,
        profile=profile,
        seen_from=seen_from,
        ports=ports,
        host=host,
    )
    with fleet:
        for backend in fleet.backends:
            print(f"{backend.name:<18} {backend.url}  {backend.rtt_ms:g} ms away", file=sys.stderr)
        print(fleet.regions_toml(), flush=True)
        previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, previous)


def _die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends (Linux; elsewhere the closing of stdin has to do)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """What ``python -m sim.run`` does: one engine, as a child of a fleet."""
    from sim.shapes import SHAPES

    parser = argparse.ArgumentParser(prog="python -m sim.run", description="Serve one simulated engine.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="llama-3.1-8b")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--engine", default="vllm", choices=tuple(SHAPES))
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-waiting", type=int, default=None)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--parent", type=int, default=None)
    options = vars(parser.parse_args(arguments))
    parent = options.pop("parent")
    if parent is not None:
        _die_with(parent)
    try:
        run_engine(**options)
    except PortInUseError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
