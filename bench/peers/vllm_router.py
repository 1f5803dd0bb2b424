"""vllm-router: vLLM's router in Rust, by round robin and with its cache-aware policy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench import environments, processes
from bench.peers.base import Gateway, Peer, Site, launch

PINS = ("vllm-router==0.1.17",)


def _install() -> str:
    environments.python("vllm-router", PINS)
    return PINS[0].partition("==")[2]


def _start(policy: str, site: Site) -> Gateway:
    program = environments.python("vllm-router", PINS) / "vllm-router"
    command: list[str | Path] = [program]
    command += ["--host", "127.0.0.1", "--port", str(site.port), "--worker-urls", *site.urls()]
    command += ["--policy", policy, "--log-level", "error", "--max-concurrent-requests", "20000"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(processes.free_port())]
    return launch(site, command, ready="/readiness", timeout_s=60)


ROUND_ROBIN = Peer("vllm-router", "vllm-router, round robin", _install, partial(_start, "round_robin"))
CACHE_AWARE = Peer("vllm-router-cache", "vllm-router, cache aware", _install, partial(_start, "cache_aware"))
