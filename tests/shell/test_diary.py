"""A router that is killed at any moment has lost nothing that it had written down, and counts nothing twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry import diary as module
from router.telemetry.counters import Metrics
from router.telemetry.diary import DECISIONS_MAX, REQUESTS_MAX, Diary
from router.telemetry.history import History
from router.telemetry.journal import AttemptRecord, Journal, Record
from router.telemetry.labels import Labels
from router.telemetry.sink import Telemetry
from router.telemetry.stats import Stats

WALL_S = 1.7e9


class Life:
    """One run of a router with a diary. ``boot_s``: when its clock began by the wall."""

    def __init__(self, folder: Path, at_s: float, *, boot_s: float = WALL_S) -> None:
        self.at_s, self.boot_s = at_s, boot_s
        labels = Labels(lambda: ["m"], self.now_s)
        self.telemetry = Telemetry(Journal(1000), Metrics(labels), Stats(labels, self.now_s), now_s=self.now_s)
        self.history = History("edge-1")
        self.diary = Diary(
            str(folder / "diary"), self.telemetry, self.history, now_s=self.now_s, wall_s=lambda: self.at_s
        )

    def now_s(self) -> float:
        return self.at_s - self.boot_s

    def serve(self, request_id: str, **changes: Any) -> None:
        record = Record(request_id, self.at_s, model="m", served_model="m", key_id="key_1", ttft_s=0.5)
        record.attempts = [AttemptRecord("us/a", "us")]
        for name, value in changes.items():
            setattr(record, name, value)
        self.telemetry.request_done(record)

    async def die(self) -> None:
        """As by ``kill -9``: what the thread has been given is written, the rest is not."""
        if self.diary._task is not None:
            self.diary._task.cancel()
        await asyncio.to_thread(self.diary._close)

    def requests(self) -> list[str]:
        return [record.request_id for record in self.telemetry.journal.newest_first()][::-1]

    def counted(self) -> int:
        self.telemetry.flush()
        return sum(spent.tally.requests for spent in self.telemetry.minutes.usage(80_000, ("region",)).values())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("serve"), st.sampled_from(["us/a", "eu/b"])),
        st.tuples(st.just("wait"), st.floats(0.1, 150.0)),
        st.tuples(st.just("turn"), st.none()),
        st.tuples(st.just("event"), st.none()),
        st.tuples(st.just("kill"), st.floats(100.0, 1e6)),
    ),
    max_size=40,
)


@given(STEPS)
def test_what_was_written_down_is_known_after_any_death(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    asyncio.run(_live(tmp_path_factory.mktemp("diary"), steps))


async def _live(folder: Path, steps: list[tuple[str, Any]]) -> None:
    life = Life(folder, WALL_S + 1000)
    await life.diary.start()
    written: list[str] = []
    fresh: list[str] = []
    events = written_events = 0
    for number, (what, value) in enumerate([*steps, ("turn", None), ("kill", 500.0)]):
        if what == "serve":
            life.serve(f"r{number}", attempts=[AttemptRecord(value, value[:2])])
            fresh.append(f"r{number}")
        elif what == "wait":
            life.at_s += value
        elif what == "event":
            life.history.note("drain", "us", after="draining")
            events += 1
        elif what == "turn":
            await life.diary.turn()
            written, fresh, written_events = written + fresh, [], events
        else:
            await life.die()
            life = Life(folder, life.at_s, boot_s=life.at_s - value)
            await life.diary.start()
            fresh, events = [], written_events
        assert life.requests() == written + fresh
        assert life.counted() == len(written) + len(fresh)
        assert len(life.history.list()) == events
    await life.die()


async def test_the_end_of_a_router_writes_down_the_rest(tmp_path: Path) -> None:
    life = Life(tmp_path, WALL_S)
    await life.diary.start()
    life.serve("r1")
    await life.diary.stop()
    later = Life(tmp_path, WALL_S + 100)
    await later.diary.start()
    assert (later.requests(), later.counted()) == (["r1"], 1)
    await later.die()


async def test_in_a_rush_the_unusual_requests_are_written_and_the_newest_of_the_others(tmp_path: Path) -> None:
    life = Life(tmp_path, WALL_S)
    for n in range(REQUESTS_MAX + 50):
        life.serve(f"r{n}", **({"cause": "server_error"} if n == 3 else {}))
    await life.diary.turn()
    await life.die()
    later = Life(tmp_path, WALL_S)
    await later.diary.start()
    assert later.requests() == ["r3", *(f"r{n}" for n in range(51, REQUESTS_MAX + 50))]
    assert later.counted() == REQUESTS_MAX + 50, "the minutes count each of them"
    assert sum(bool(r.candidates) for r in later.telemetry.journal.newest_first()) <= DECISIONS_MAX
    await later.die()


async def test_its_files_are_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DAY_BYTES", 4000)
    monkeypatch.setattr(module, "RECENT_BYTES", 40_000)
    life = Life(tmp_path, WALL_S)
    for n in range(300):
        life.serve(f"r{n}")
        life.at_s += 61
        await life.diary.turn()
    await life.die()
    files = {file.name: file for file in tmp_path.iterdir()}
    assert files.keys() == {"diary.day", "diary.day.1", "diary.recent", "diary.recent.1"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in files.values())
    assert sum(file.stat().st_size for file in files.values()) < 2 * 4000 + 2 * 40_000 + 4000
    later = Life(tmp_path, life.at_s)
    await later.diary.start()
    assert later.requests()[-1] == "r299"
    assert later.counted() > 10
    await later.die()
