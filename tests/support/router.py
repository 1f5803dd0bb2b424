"""A real router process in front of whatever backends a test has, on free ports."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from router.core.traits import TRAITS
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]


@dataclass
class Site:
    """A backend as the configuration names it."""

    region: str
    name: str
    url: str
    engine: str = "vllm"
    models: Sequence[str] | None = None
    jurisdiction: str = "us"
    extra: str = ""
    #: "auto" asks the engine, which scripted backends would take for a client. None: what engines of its kind can.
    continues: str | None = None
    location: tuple[float, float] | None = None  # of the region


def configuration(sites: Sequence[Site], *, head: str, listen: str, admin: str) -> str:
    """regions.toml for these sites. ``head``: everything else, e.g. plans; [router] keys stand first in it."""
    out = [f'[router]\nname = "test"\nlisten = "{listen}"\nadmin = "{admin}"\n{head}\n']
    for region in dict.fromkeys(s.region for s in sites):
        inside = [s for s in sites if s.region == region]
        out.append(f'[[regions]]\nname = "{region}"\njurisdiction = "{inside[0].jurisdiction}"\n')
        if inside[0].location is not None:
            out.append(f"location = {list(inside[0].location)}\n")
        for s in inside:
            models = f"models = {json.dumps(list(s.models))}\n" if s.models is not None else ""
            continues = s.continues or TRAITS[s.engine].continues.word
            out.append(
                f'[[regions.backends]]\nname = "{s.name}"\nurl = "{s.url}"\nengine = "{s.engine}"\n'
                f'continues = "{continues}"\n{models}{s.extra}\n'
            )
    return "\n".join(out)


@dataclass
class RouterProcess:
    """``with RouterProcess(sites, head='…') as r:``; r.url for clients, r.admin for operators."""

    sites: Sequence[Site]
    head: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    wait: str | None = "/readyz"
    errors_allowed: bool = False
    command: Sequence[str] = ("-X", "dev", "-m", "router")
    probe: str = "listen"  # or "admin": which listener says that the router is there

    def __enter__(self) -> Self:
        self._told = False
        self._folder = tempfile.TemporaryDirectory(prefix="meridian-test-")
        self.folder = Path(self._folder.name)
        self.listen, self.admin_address = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.url, self.admin = f"http://{self.listen}", f"http://{self.admin_address}"
        self.file = self.folder / "regions.toml"
        self.write_config()
        self.log = self.folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command, str(self.file)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.env},
                stderr=log,
                stdout=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )
        try:
            self.wait_for("/healthz")
            if self.wait is not None:
                self.wait_for(self.wait)
        except BaseException:
            self.process.kill()
            self.process.wait()
            print(self.log.read_text())
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.process.poll() is None and not self._told:
                self.terminate()
            code = self.process.wait(60)
            text = self.log.read_text()
            assert code in (0, -signal.SIGKILL), f"{code}: {text}"
            if not self.errors_allowed:
                assert '"level":"error"' not in text, text
                assert "Traceback" not in text, text
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._folder.cleanup()

    def terminate(self) -> None:
        """Tell it to drain and end. Once: a signal more, when it has nearly ended, would be its end by that signal."""
        self._told = True
        self.process.send_signal(signal.SIGTERM)

    async def __aenter__(self) -> Self:
        """For tests whose backends live on the test's own loop."""
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self.__exit__, *exc)

    async def until(self, path: str, *, status: int = 200) -> None:
        await asyncio.to_thread(lambda: self.wait_for(path, status=status))

    async def until_nobody_listens(self) -> None:
        """Wait until a new client is refused."""
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection(*self.listen.split(":"))
                except ConnectionRefusedError:
                    return
                writer.close()
                await asyncio.sleep(0.02)

    def write_config(self) -> None:
        self.file.write_text(configuration(self.sites, head=self.head, listen=self.listen, admin=self.admin_address))

    def wait_for(self, path: str, *, status: int = 200, timeout_s: float = 60.0) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the router ended with {self.process.returncode}: {self.log.read_text()}")
            try:
                base = self.url if self.probe == "listen" else self.admin
                with urllib.request.urlopen(base + path, timeout=2) as answer:
                    got = answer.status
            except urllib.error.HTTPError as error:
                got = error.code
                error.close()
            except OSError:
                got = 0
            if got == status:
                return
            time.sleep(0.02)
        raise AssertionError(f"{path} did not become {status} in {timeout_s} s")

    def ask_admin(self, path: str, body: object = None, *, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.admin + path, data=data, method=method)
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def records(self) -> list[dict[str, Any]]:
        return list(self.ask_admin("/admin/v1/requests?limit=1000")["data"])

    def record(self, request_id: str) -> dict[str, Any]:
        """The journal's record of a request that has ended or is about to."""
        for _ in range(100):
            try:
                return dict(self.ask_admin(f"/admin/v1/requests/{request_id}"))
            except urllib.error.HTTPError as error:
                error.close()
                time.sleep(0.02)
        raise AssertionError(f"no record of {request_id}")

    def create_key(self, name: str = "test", plan: str = "default") -> str:
        return str(self.ask_admin("/admin/v1/keys", {"name": name, "plan": plan})["key"])
