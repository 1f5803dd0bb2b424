"""Starts the demo's engines, its router and a folder for file and log, and sees to it that all of them end."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from cli.client import Remote
from cli.context import Context
from cli.errors import CliError

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05
_LOG_LINES = 12

_HEAD = """\
# The demo's configuration. It goes away with the demo; saving it reloads the router.

[router]
name   = "demo"
region = "{region}"
listen = "127.0.0.1:{port}"
admin  = "127.0.0.1:{admin_port}"
chaos  = true
{store}
[auth]
mode = "keys"

[plans.default]
requests_per_minute = 600
tokens_per_minute   = 1_000_000
concurrent          = 64

[plans.tiny]
requests_per_minute = {tiny_requests}

[timeouts]
drain = 2.0

[probes]
interval = 0.5

"""

#: Requests per minute of the plan ``tiny``.
TINY_REQUESTS = 3


class World(Protocol):
    """The regions behind the demo's router. Enter it to start all, leave it to end all."""

    @property
    def model(self) -> str: ...
    @property
    def regions(self) -> Sequence[str]:
        """Their names, the near one first."""

    @property
    def summary(self) -> str:
        """A few words about the world."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def regions_toml(self) -> str: ...
    def kill(self, region: str) -> None:
        """Kill every engine of the region at once."""

    def restart(self, region: str) -> None:
        """Start them again at the same addresses."""


@dataclass(frozen=True, slots=True)
class Ports:
    clients: int
    admin: int


class Stage:
    """The world and the router in front of it. ``with Stage(…) as stage: stage.start()``; after it nothing is left."""

    def __init__(self, ctx: Context, world: World, ports: Ports) -> None:
        self.world = world
        self.url = f"http://127.0.0.1:{ports.clients}"
        self.admin_url = f"http://127.0.0.1:{ports.admin}"
        self.admin: Remote = ctx.connect(self.admin_url, None, admin=True)
        self._ctx = ctx
        self._ports = ports
        self._stack = ExitStack()
        self._router: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="meridian-demo-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self.config = folder / "regions.toml"
        self.log = folder / "router.log"
        return self

    def start(self) -> None:
        """Start all of it; returns when the router has met every backend. Raises CliError."""
        self._stack.enter_context(self.world)
        self._stack.callback(self._stop_router)
        self._start_router()
        self._wait_ready()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def running(self) -> bool:
        return self._router is not None and self._router.poll() is None

    def api(self, key: str) -> Remote:
        """The router as a client with this key sees it."""
        return self._ctx.connect(self.url, key, admin=False)

    def create_key(self, name: str, plan: str = "default") -> str:
        """A new key's secret."""
        return str(self.admin.post("/admin/v1/keys", {"name": name, "plan": plan})["key"])

    def wait_usable(self, region: str, *, timeout_s: float) -> None:
        """Until the router may send requests to a backend of the region. Raises CliError."""
        start_s = time.monotonic()
        while time.monotonic() - start_s < timeout_s:
            views = self.admin.get("/admin/v1/regions")["data"]
            if any(b["usable"] for view in views if view["name"] == region for b in view["backends"]):
                return
            time.sleep(_POLL_S)
        raise CliError(f"the router did not see within {timeout_s:g} s that {region} is back")

    def _start_router(self) -> None:
        store = '\n[store]\nredis = "embedded"   # a private Valkey\n' if _has_valkey() else ""
        head = _HEAD.format(
            region=self.world.regions[0],
            port=self._ports.clients,
            admin_port=self._ports.admin,
            store=store,
            tiny_requests=TINY_REQUESTS,
        )
        self.config.write_text(head + self.world.regions_toml(), encoding="utf-8")
        with self.log.open("wb") as log:
            self._router = subprocess.Popen(
                [sys.executable, "-m", "cli", "serve", "--config", str(self.config), "--log-format", "human"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
                # Ctrl-C at the terminal is for the demo, which then ends the router in order.
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def _wait_ready(self) -> None:
        """Until every backend is usable, and its models and its distance are known."""
        start_s = time.monotonic()
        while time.monotonic() - start_s < _READY_TIMEOUT_S:
            if not self.running:
                raise self._failed("the demo's router did not start")
            try:
                backends = self.admin.get("/admin/v1/backends")["data"]
            except CliError:
                backends = []
            if backends and all(b["usable"] and b["models"] and b["rtt_s"] is not None for b in backends):
                return
            time.sleep(_POLL_S)
        raise self._failed("the demo's router did not get ready")

    def _failed(self, message: str) -> CliError:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return CliError(message, hint="The lines above are the end of its log.", details=lines[-_LOG_LINES:])

    def _stop_router(self) -> None:
        if self._router is None:
            return
        if self._router.poll() is None:
            self._router.terminate()
            try:
                self._router.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._router.kill()
        self._router.wait()


def _has_valkey() -> bool:
    """Does the optional Valkey run here? Without it the router keeps keys and quotas in its memory."""
    from router.store.base import StoreError
    from router.store.embedded import binary

    try:
        binary()
    except StoreError:
        return False
    return True


def child_environment() -> dict[str, str]:
    """The environment for a child that runs modules of this project, installed or not."""
    root = str(Path(__file__).resolve().parents[2])
    path = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def end_with_parent() -> None:
    """In a child before it runs: ask the kernel for SIGTERM when the parent ends, however it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
