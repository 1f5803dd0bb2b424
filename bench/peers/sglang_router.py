"""sglang-router: SGLang's router in Rust, by round robin and with its cache-aware policy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench import environments, processes
from bench.peers.base import Gateway, Peer, Site, launch

PINS = ("sglang-router==0.3.2",)


def _install() -> str:
    environments.python("sglang-router", PINS)
    return PINS[0].partition("==")[2]


def _start(policy: str, site: Site) -> Gateway:
    program = environments.python("sglang-router", PINS) / "python"
    command: list[str | Path] = [program, "-m", "sglang_router.launch_router"]
    command += ["--host", "127.0.0.1", "--port", str(site.port)]
    command += ["--worker-urls", *site.urls(), "--policy", policy, "--log-level", "error"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(processes.free_port())]
    command += ["--max-concurrent-requests", "20000"]
    return launch(site, command, ready="/readiness", timeout_s=60)


ROUND_ROBIN = Peer("sglang-router", "sglang-router, round robin", _install, partial(_start, "round_robin"))
CACHE_AWARE = Peer("sglang-router-cache", "sglang-router, cache aware", _install, partial(_start, "cache_aware"))
