"""A router started with ``router serve`` in front of simulated engines, and the program beside it, as an operator has them.

with serving(folder) as site:
    site("regions", "drain", "us-east", "--force")
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.fleet import SimFleet
from tests.support.cli import Done, environment, router
from tests.support.ports import free_port

HEAD = """\
[router]
name = "test"
region = "us-east"
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
chaos = true

[auth]
mode = "keys"
{auth}

[plans.default]
requests_per_minute = 600

[plans.tiny]
requests_per_minute = 1

[probes]
interval = 0.2

"""


@dataclass
class Site:
    """The router's process, and ``router …`` against it."""

    folder: Path
    fleet: SimFleet
    env: dict[str, str]
    process: subprocess.Popen[bytes]

    def __call__(self, *args: str, code: int = 0, **env: str) -> Done:
        done = router(*args, cwd=self.folder, env=self.env | env)
        assert done.code == code, (args, done)
        return done

    def ask(self, *args: str) -> Any:
        return json.loads(self(*args, "--json").out)


@contextmanager
def serving(folder: Path, *, auth: str = "", token: Path | None = None) -> Iterator[Site]:
    """``auth``: more keys of [auth]. ``token``: a file of operators that the router makes, whose token is used."""
    port, admin = free_port(), free_port()
    env = {"ROUTER_ADMIN_URL": f"http://127.0.0.1:{admin}", "ROUTER_URL": f"http://127.0.0.1:{port}"}
    with SimFleet(rtt_ms={"us-east": 0, "eu-central": 120, "ap-northeast": 240}) as fleet:
        (folder / "regions.toml").write_text(HEAD.format(port=port, admin=admin, auth=auth) + fleet.regions_toml())
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", "serve"],
                cwd=folder,
                env=environment(env),
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        try:
            site = Site(folder, fleet, env, process)
            if token is not None:
                until(token.exists, process)
                env["ROUTER_ADMIN_TOKEN"] = _token(token)
            until(lambda: router("status", cwd=folder, env=env).code == 0, process)
            env["ROUTER_API_KEY"] = site.ask("keys", "create", "tests")["key"]
            yield site
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (folder / "log").read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            print((folder / "log").read_text())


def until(condition: Any, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, "the router has ended"
        assert time.monotonic() < end_s
        time.sleep(0.05)


def _token(path: Path) -> str:
    import tomllib

    (operator,) = tomllib.loads(path.read_text())["operators"].values()
    return str(operator["token"])
