"""What a peer is: how to install it, how to start it in front of the backends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import processes

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MODEL = "bench"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a gateway is started: its core, its port, a folder of its own, and the backends it serves."""

    port: int
    backends: tuple[int, ...]
    folder: Path
    gateway_cpus: frozenset[int]
    other_cpus: frozenset[int]

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def urls(self, suffix: str = "") -> list[str]:
        return [f"http://127.0.0.1:{port}{suffix}" for port in self.backends]

    def write(self, name: str, text: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.write_text(text)
        return path


@dataclass(slots=True)
class Gateway:
    """A gateway that runs. `stores` are servers it shares state through; their CPU counts as the gateway's."""

    port: int
    backends: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    stores: list[subprocess.Popen[bytes]] = field(default_factory=list)
    headers: tuple[str, ...] = ()

    @property
    def roots(self) -> list[int]:
        return [] if self.process is None else [self.process.pid, *self.store_roots]

    @property
    def store_roots(self) -> list[int]:
        return [store.pid for store in self.stores]

    def stop(self) -> None:
        for process in ([self.process] if self.process else []) + self.stores:
            processes.stop(process)


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway to compare. `install` is idempotent and returns the version; it raises NotInstallable."""

    name: str
    title: str
    install: Callable[[], str]
    start: Callable[[Site], Gateway]


def launch(
    site: Site,
    command: Sequence[str | Path],
    *,
    ready: str,
    timeout_s: float = 30.0,
    env: Mapping[str, str] | None = None,
    headers: tuple[str, ...] = (),
    stores: Sequence[subprocess.Popen[bytes]] = (),
) -> Gateway:
    """Starts a gateway on its core and waits until `ready` (a path, or a whole URL) answers 2xx."""
    site.folder.mkdir(parents=True, exist_ok=True)
    process = processes.start(command, site.log, cpus=site.gateway_cpus, env=env, cwd=site.folder)
    gateway = Gateway(site.port, site.backends, process, list(stores), headers)
    url = ready if ready.startswith("http") else f"http://127.0.0.1:{site.port}{ready}"
    try:
        processes.wait_ready(url, process, site.log, timeout_s)
    except BaseException:
        gateway.stop()
        raise
    return gateway
