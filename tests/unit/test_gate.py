"""The gate: connections whose wait is over are told, oldest first and a limited number at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.wire.gate import ClientLimits, Gate

LIMITS = ClientLimits(
    head_bytes=8192,
    headers=100,
    body_bytes=1024,
    buffered_bytes=4096,
    connections=10,
    body_timeout_s=5.0,
    body_bytes_per_s=100,
    body_whole_s=50.0,
    stall_s=7.0,
)
#: the dictionary of each wait -> its limit, and what the connection is told
WAITS = {
    "heads": ("head_timeout_s", "head_expired"),
    "bodies": ("body_timeout_s", "body_expired"),
    "uploads": ("body_whole_s", "upload_expired"),
    "paces": ("pace_s", "pace_expired"),
    "idle": ("idle_timeout_s", "idle_expired"),
    "lingering": ("linger_timeout_s", "abort"),
    "stalled": ("stall_s", "stall_expired"),
}


class Client:
    """Notes what the gate tells it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def head_expired(self) -> None:
        self.told.append("head_expired")

    def body_expired(self) -> None:
        self.told.append("body_expired")

    def upload_expired(self) -> None:
        self.told.append("upload_expired")

    def pace_expired(self) -> None:
        self.told.append("pace_expired")

    def idle_expired(self) -> None:
        self.told.append("idle_expired")

    def stall_expired(self) -> None:
        self.told.append("stall_expired")

    def abort(self) -> None:
        self.told.append("abort")

    def close_quiet(self) -> None:
        self.told.append("close_quiet")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("wait", WAITS)
def test_a_wait_ends_at_its_limit_and_not_before(wait: str) -> None:
    limit, told = WAITS[wait]
    clock, client = Clock(), Client()
    gate: Gate[Client] = Gate(LIMITS, clock)
    getattr(gate, wait)[client] = clock.now_s
    clock.now_s += getattr(LIMITS, limit) - 0.001
    gate.sweep()
    assert client.told == []
    clock.now_s += 0.002
    gate.sweep()
    gate.sweep()
    assert client.told == [told]


def test_the_oldest_are_ended_first_and_the_others_stay() -> None:
    clock = Clock()
    gate: Gate[Client] = Gate(LIMITS, clock)
    old, young = Client(), Client()
    gate.idle[old] = clock.now_s
    gate.idle[young] = clock.now_s + 50.0
    clock.now_s += LIMITS.idle_timeout_s
    gate.sweep()
    assert (old.told, young.told) == (["idle_expired"], [])
    assert list(gate.idle) == [young]


def test_one_sweep_ends_a_limited_number() -> None:
    """Thousands of waits that end at once would hold up every other connection."""
    clock = Clock()
    gate: Gate[Client] = Gate(LIMITS, clock)
    gate.lingering = {Client(): clock.now_s for _ in range(1000)}
    clock.now_s += LIMITS.linger_timeout_s
    gate.sweep()
    left = len(gate.lingering)
    assert 0 < left < 1000
    for _ in range(10):
        gate.sweep()
    assert not gate.lingering


def test_what_is_forgotten_waits_for_nothing() -> None:
    gate: Gate[Client] = Gate(LIMITS, Clock())
    client = Client()
    gate.connections.add(client)
    for wait in WAITS:
        getattr(gate, wait)[client] = 0.0
    gate.forget(client)
    assert not gate.connections
    assert not any(getattr(gate, wait) for wait in WAITS)


def test_new_limits_hold_for_waits_that_have_begun() -> None:
    clock, client = Clock(), Client()
    gate: Gate[Client] = Gate(LIMITS, clock)
    gate.stalled[client] = clock.now_s
    gate.reload(replace(LIMITS, stall_s=1.0))
    clock.now_s += 1.0
    gate.sweep()
    assert client.told == ["stall_expired"]


def test_quiet_connections_are_those_that_nothing_happened_on() -> None:
    gate: Gate[Client] = Gate(LIMITS, Clock())
    idle, new, busy = Client(), Client(), Client()
    gate.idle[idle], gate.heads[new], gate.heads[busy] = 10.0, 10.0, 30.0
    gate.close_quiet(20.0)
    assert (idle.told, new.told, busy.told) == (["close_quiet"], ["close_quiet"], [])
