"""What is measured, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load.

    `unit` says what CPU time is divided by: "request", "chunk" (a streamed token) or "" (memory: nothing is divided).
    `connections` is the number of requests in flight; `rate` makes the load open (arrivals per second); `opens` is the
    number of streams that somebody else opens at once while this load runs.
    """

    name: str
    title: str
    unit: str
    connections: int
    prompt_bytes: int = 200
    chunks: int = 16
    interval_us: int = 0
    stream: bool = False
    hold: bool = False
    opens: int = 0
    rate: float = 0.0
    seconds: float = 2.0
    warm_s: float = 0.7

    def arguments(self) -> list[str]:
        """Options of the load generator."""
        mode = "hold" if self.hold else "open" if self.rate else "closed"
        given = {
            "mode": mode,
            "connections": self.connections,
            "prompt-bytes": self.prompt_bytes,
            "chunks": self.chunks,
            "interval-us": self.interval_us,
            "rate": self.rate or 1,
            "seconds": self.seconds,
            "warm-s": self.warm_s,
        }
        return [f"--{name}={value}" for name, value in given.items()] + ["--stream"] * self.stream

    def shortened(self, factor: float) -> Scenario:
        return replace(self, seconds=self.seconds * factor, warm_s=max(0.3, self.warm_s * factor))


TICK_US = 20_000
IDLE_US = 10_000_000
LONG_CHUNKS = 4_000  # 80 s of ticks: no held stream ends inside a slice


#: What the others open: nothing comes but the first tokens.
def crowd(scenario: Scenario) -> Scenario:
    return _held("crowd", "", "", scenario.opens, IDLE_US, 0.0)


def _held(name: str, title: str, unit: str, connections: int, interval_us: int, seconds: float) -> Scenario:
    return Scenario(
        name,
        title,
        unit,
        connections,
        chunks=LONG_CHUNKS,
        interval_us=interval_us,
        stream=True,
        hold=True,
        seconds=seconds,
    )


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("whole-200", "non-stream, 200 B prompt", "request", 64),
        Scenario("whole-16k", "non-stream, 16 KiB prompt", "request", 64, prompt_bytes=16_384),
        Scenario("stream-64", "streams of 64 chunks at full speed", "chunk", 16, chunks=64, stream=True),
        Scenario("stream-256", "streams of 256 chunks at full speed", "chunk", 16, chunks=256, stream=True),
        _held("alone-100", "100 streams, 20 ms between chunks", "chunk", 100, TICK_US, 2.0),
        _held("alone-1000", "1 000 streams, 20 ms between chunks", "chunk", 1_000, TICK_US, 2.0),
        Scenario("latency", "one request at a time", "request", 1),
        Scenario("latency-stream", "one stream of 16 chunks at a time", "request", 1, stream=True),
        Scenario("latency-open", "200 requests/s at random times", "request", 64, rate=200.0, seconds=4.0),
        replace(
            _held("opening", "100 streams while 1 000 more are opened at once", "", 100, TICK_US, 2.0), opens=1_000
        ),
        _held("open-1000", "memory with 1 000 open streams", "", 1_000, IDLE_US, 0.0),
        _held("open-10000", "memory with 10 000 open streams", "", 10_000, IDLE_US, 0.0),
    )
}
