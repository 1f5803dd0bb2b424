"""A real Prometheus, of Debian's package: scrapes what a test names, and answers its queries."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
_CACHE = ROOT / ".cache" / "bin"


def program(name: str) -> str | None:
    """``prometheus`` or ``promtool``: installed, or unpacked by ``.ci/run`` or ``fetched``."""
    return shutil.which(name) or shutil.which(name, path=str(_CACHE))


def fetched(name: str) -> str | None:
    """The program; unpacked from Debian's package, as ``.ci/run`` does it, if it is not here yet. None: it cannot be
    had. The package is not installed: it would start a Prometheus."""
    if (found := program(name)) is not None or shutil.which("apt-get") is None:
        return found
    with tempfile.TemporaryDirectory(prefix="meridian-debian-") as folder:
        download = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "prometheus"]
        done = subprocess.run(download, cwd=folder, capture_output=True, check=False, timeout=120)
        packages = list(Path(folder).glob("prometheus_*.deb"))
        if done.returncode or not packages:
            return None
        subprocess.run(["dpkg-deb", "--extract", packages[0], f"{folder}/all"], check=True, timeout=120)
        _CACHE.mkdir(parents=True, exist_ok=True)
        temporary = _CACHE / f"{name}.{os.getpid()}"
        shutil.copy(f"{folder}/all/usr/bin/{name}", temporary)
        temporary.replace(_CACHE / name)  # whole at once, for tests beside this one
    return program(name)


@dataclass
class Prometheus:
    """``async with Prometheus(targets, rules) as p``: it scrapes ``targets`` (HOST:PORT) every half second."""

    targets: Sequence[str]
    rules: Sequence[Path] = ()
    interval_s: float = 0.5
    _log: Any = field(default=None, repr=False)

    async def __aenter__(self) -> Self:
        binary = program("prometheus")
        assert binary is not None
        self._folder = tempfile.TemporaryDirectory(prefix="meridian-prometheus-")
        folder, self.address = Path(self._folder.name), f"127.0.0.1:{free_port()}"
        every = f"{int(self.interval_s * 1000)}ms"
        document = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(path) for path in self.rules],
            "scrape_configs": [{"job_name": "router", "static_configs": [{"targets": list(self.targets)}]}],
        }
        file = folder / "prometheus.yml"
        file.write_text(json.dumps(document))  # JSON is YAML
        self._start(binary, folder)
        try:
            await self._until_ready(folder)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def _start(self, binary: str, folder: Path) -> None:
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={self.address}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GOMAXPROCS": "1"},
        )

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, 30)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()
            self._folder.cleanup()

    async def _until_ready(self, folder: Path) -> None:
        async with asyncio.timeout(60):
            while True:
                assert self._process.poll() is None, (folder / "log").read_text()
                try:
                    await self.ask("/api/v1/status/buildinfo")
                    return
                except (OSError, AssertionError):  # 503 while it reads its data
                    await asyncio.sleep(0.1)

    async def ask(self, path: str, **params: str) -> Any:
        """What the API says, its ``data``. Raises AssertionError with its words for a query that it cannot run."""
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(params)}"

        def get() -> Any:
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                with error:
                    raise AssertionError(f"{params}: {error.read().decode()}") from None

        return (await asyncio.to_thread(get))["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now."""
        found = await self.ask("/api/v1/query", query=expression)
        return list(found["result"])
