"""Simulated engines as processes: starting, signals, faults by hand, and dying with their parent."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing

import pytest

from sim.fleet import EngineStartError, SimBackend, SimFleet
from sim.geography import DEFAULT_REGIONS, RegionPlan, city_of, rtt_ms
from sim.run import PortInUseError, run_engine
from tests.support.processes import alive

ONE = (RegionPlan("us-east", "Washington DC", "us", backends=1),)
TWO = (RegionPlan("us-east", "Washington DC", "us", 1), RegionPlan("eu-central", "Frankfurt", "eu", 1))


@pytest.fixture
def fleet() -> Iterator[SimFleet]:
    with SimFleet(TWO) as started:
        yield started


def ask(
    backend: SimBackend, method: str, path: str, body: dict[str, object] | None = None, timeout_s: float = 5.0
) -> tuple[int, bytes]:
    """Status and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", backend.port, timeout=timeout_s)) as connection:
        connection.request(method, path, json.dumps(body or {}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


def complete(backend: SimBackend, **fields: object) -> tuple[int, bytes]:
    return ask(backend, "POST", "/v1/completions", {"model": "llama-3.1-8b", "prompt": "x", "max_tokens": 3} | fields)


def gone(pid: int, timeout_s: float = 30.0) -> bool:
    """Has the process ended, as a zombie or altogether?"""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if not alive(pid):
            return True
        time.sleep(0.02)
    return False


def test_the_default_world_starts_in_parallel_and_knows_its_distances() -> None:
    with SimFleet(seen_from="us-east") as fleet:
        assert [b.name for b in fleet.backends] == [f"{r.name}/{x}" for r in DEFAULT_REGIONS for x in "ab"]
        assert [b.rtt_ms for b in fleet.backends[::2]] == [0.2, 91.0, 164.0]
        assert len({b.port for b in fleet.backends}) == 6
        assert all(b.state()["rtt_ms"] == b.rtt_ms for b in fleet.backends[:3])


def test_each_engine_answers_and_the_same_text(fleet: SimFleet) -> None:
    texts = {json.loads(complete(b, max_tokens=20)[1])["choices"][0]["text"] for b in fleet.backends}
    assert len(texts) == 1


def test_killed_stopped_continued_restarted(fleet: SimFleet) -> None:
    first, second = fleet.backends
    url, pid = first.url, first.pid
    first.kill()
    assert not first.alive
    with pytest.raises(ConnectionRefusedError):
        complete(first)
    first.restart()
    assert (first.url, first.alive) == (url, True)
    assert first.pid != pid
    assert complete(first)[0] == 200
    second.stop()
    with pytest.raises(TimeoutError):
        ask(second, "GET", "/health", timeout_s=0.3)
    second.cont()
    assert complete(second)[0] == 200


def test_faults_by_hand(fleet: SimFleet) -> None:
    backend = fleet.backends[0]
    assert backend.fault("error_status", status=503, count=1)["kind"] == "error_status"
    assert complete(backend)[0] == 503
    assert complete(backend)[0] == 200
    with pytest.raises(ValueError, match="unknown kind"):
        backend.fault("nonsense")
    backend.fault("slow", factor=3)
    assert [f["kind"] for f in backend.state()["faults"]] == ["slow"]
    backend.reset()
    assert backend.state()["faults"] == []


def test_a_crash_fault_ends_the_process(fleet: SimFleet) -> None:
    backend = fleet.backends[0]
    backend.fault("crash")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        complete(backend)
    assert gone(backend.pid)
    deadline_s = time.monotonic() + 3.0
    while backend.alive and time.monotonic() < deadline_s:  # a zombie is waited for a moment later
        time.sleep(0.02)
    assert not backend.alive


def test_sigterm_ends_open_streams_in_the_engines_way_and_exits_with_0(fleet: SimFleet) -> None:
    backend = fleet.backends[0]
    results: list[tuple[int, bytes]] = []
    reading = threading.Thread(target=lambda: results.append(complete(backend, stream=True, max_tokens=2000)))
    reading.start()
    while backend.state()["running"] == 0:
        time.sleep(0.02)
    assert backend.terminate(5.0) == 0
    reading.join()
    ((status, body),) = results
    assert status == 200
    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"error"' in body


def test_children_end_with_a_parent_that_is_killed() -> None:
    program = textwrap.dedent("""
        import sys, time
        from sim.fleet import SimFleet
        from sim.geography import RegionPlan
        fleet = SimFleet((RegionPlan("us-east", "Washington DC", "us", 2),))
        fleet.start()
        fleet.backends[1].stop()
        print(*[b.pid for b in fleet.backends], flush=True)
        time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=os.getcwd())
    assert parent.stdout is not None
    with parent.stdout:
        pids = [int(p) for p in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    assert gone(pids[0])
    assert gone(pids[1])  # even one that is stopped


def test_children_end_with_a_fleet_started_from_a_thread_that_is_gone() -> None:
    fleet = SimFleet(ONE)
    thread = threading.Thread(target=fleet.start)
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert fleet.backends[0].alive
    assert complete(fleet.backends[0])[0] == 200
    pid = fleet.backends[0].pid
    fleet.close()
    assert gone(pid)


def test_a_port_in_use_is_said_clearly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1 is in use"):
            run_engine(port, "m", quiet=True)
        with pytest.raises(EngineStartError, match="in use"):
            SimFleet(ONE, ports=[port]).start()
    with pytest.raises(ValueError, match="1 backends need 1 ports"):
        SimFleet(ONE, ports=[1, 2])


def test_an_engine_says_where_it_listens_and_ends_on_sigint() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "sim.run", "--port", "0", "--model", "m", "--engine", "sglang"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line.startswith("listening on http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30.0)
    assert process.returncode == 0
    assert b"simulated sglang serves m" in errors
    assert b"Traceback" not in errors


def test_the_configuration_of_a_fleet_is_what_the_router_reads(fleet: SimFleet) -> None:
    regions = tomllib.loads(fleet.regions_toml())["regions"]
    assert [r["name"] for r in regions] == ["us-east", "eu-central"]
    assert regions[0]["backends"][0] == {
        "name": "a",
        "url": fleet.backends[0].url,
        "engine": "vllm",
        "models": ["llama-3.1-8b"],
    }
    assert regions[1]["jurisdiction"] == "eu"


def test_places_are_regions_or_cities() -> None:
    assert city_of("ap-northeast") == "Tokyo"
    assert city_of("Madrid") == "Madrid"
    with pytest.raises(ValueError, match="no place 'Atlantis'"):
        city_of("Atlantis")
    assert rtt_ms()["Tokyo", "Tokyo"] == 0.2
    assert len(rtt_ms()) == 100
