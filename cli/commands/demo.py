"""router demo: regions, a router and a few prompts, on this machine, in a minute."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.context import Context, context
from cli.errors import CliError, Exit

if TYPE_CHECKING:
    from cli.demo.scenes import Size
    from cli.demo.screen import Screen
    from cli.demo.stage import Ports, Stage, World

_CLIENT_PORT = 8080
_ADMIN_PORT = 9090


@dataclass(frozen=True, slots=True)
class DemoOptions:
    once: bool
    real: bool
    port: int | None
    admin_port: int | None
    prompts: int


def command(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="End after the show; exit code 1 if it went wrong.")] = False,
    real: Annotated[bool, typer.Option("--real", help="Real llama.cpp engines with a small model.")] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help=f"For clients. Default: {_CLIENT_PORT} if it is free.")
    ] = None,
    admin_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help=f"For operators. Default: {_ADMIN_PORT} if it is free.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, max=50, help="How many prompts to show.")] = 3,
) -> None:
    """Three regions, a router and a few streamed prompts. Then it stays up for yours, until Ctrl-C."""
    context(ctx).run(run_demo, DemoOptions(once, real, port, admin_port, prompts))


def run_demo(ctx: Context, options: DemoOptions) -> None:
    from cli.demo import scenes
    from cli.demo.screen import Screen
    from cli.demo.stage import Stage

    ports = choose_ports(options)
    world, size = _world(ctx, options.real)
    screen = Screen(ctx.out, world.regions)
    with _ended_in_order(), Stage(ctx, world, ports) as stage:
        with screen.waiting(f"starting {world.summary}"):
            stage.start()
            key = stage.create_key("demo")
            show = scenes.Show(stage, screen, size, key)
            show.warm_up()
        show.fleet()
        show.prompts(options.prompts)
        show.burst()
        show.outage()
        show.quota()
        if not options.once:
            invite(screen, stage, key, ports, asked=(options.port, options.admin_port))
            _stay(stage)
    ctx.out.note("Everything has ended, nothing is left behind.")


def choose_ports(options: DemoOptions) -> Ports:
    """The ports that were asked for, else the usual ones if they are free, else free ones. Raises CliError."""
    from cli.demo.ports import is_free, usual_or_free
    from cli.demo.stage import Ports

    for flag, asked in (("--port", options.port), ("--admin-port", options.admin_port)):
        if asked is not None and not is_free(asked):
            hint = f"Choose another with {flag}, or leave it out: a free one is taken then."
            raise CliError(f"port {asked} is in use", code=Exit.USAGE, hint=hint)
    return Ports(options.port or usual_or_free(_CLIENT_PORT), options.admin_port or usual_or_free(_ADMIN_PORT))


#: commands that show something of a fleet that has just been asked, and what
_LOOKS = (
    ("explain last", "why the last request went where it went, and why it was slow"),
    ("status", "is the fleet well?"),
    ("top", "the fleet, live"),
    ("traffic list", "the last requests"),
)


def invite(screen: Screen, stage: Stage, key: str, ports: Ports, *, asked: tuple[int | None, int | None]) -> None:
    """What to type now. ``asked``: the ports that were asked for."""
    model = stage.world.model
    screen.heading("Now you try", "Ctrl-C ends it")
    usual = (_CLIENT_PORT, _ADMIN_PORT)
    got = (ports.clients, ports.admin)
    taken = [str(u) for u, g, a in zip(usual, got, asked, strict=True) if a is None and g != u]
    if taken:
        screen.line(f"[dim]{' and '.join(taken)} in use by another program, so free ports were taken[/]")
    curl = f"""\
export KEY={key}
curl -N {stage.url}/v1/chat/completions \\
  -H "authorization: Bearer $KEY" \\
  -H 'content-type: application/json' \\
  -d '{{"model": "{model}", "stream": true, "max_tokens": 60,
       "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
    python = f"""\
from openai import OpenAI
client = OpenAI(
    base_url="{stage.url}/v1",
    api_key="{key}",
)
prompt = [{{"role": "user", "content": "Hello"}}]
answer = client.chat.completions.create(model="{model}", messages=prompt)
print(answer.choices[0].message.content)"""
    screen.code(curl, "bash")
    screen.code(python, "python")
    admin = "" if ports.admin == _ADMIN_PORT else f" --admin-url {stage.admin_url}"
    screen.line("")
    for words, text in _LOOKS:
        screen.line(f"[bold]{program()} {words}{admin}[/]  [dim]{text}[/]")
    screen.line("")
    screen.line(f"[dim]{stage.config}: change it and save, the router picks it up[/]")


def program() -> str:
    """What to type for this program in the folder it was started from."""
    beside = Path(sys.executable).with_name("router")
    if shutil.which("router") == str(beside) or not beside.exists():
        return "router"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def _stay(stage: Stage) -> None:
    """Until Ctrl-C."""
    try:
        while stage.running:
            time.sleep(0.2)
    except KeyboardInterrupt:
        return
    raise CliError("the demo's router has ended by itself")


def _world(ctx: Context, real: bool) -> tuple[World, Size]:
    from cli.demo import scenes

    if real:
        from cli.demo.real import RealWorld, find_model

        return RealWorld(find_model(ctx.out)), scenes.REAL
    from cli.demo.simulated import SimulatedWorld

    return SimulatedWorld(), scenes.SIMULATED


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo like Ctrl-C does: everything it started is stopped."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
