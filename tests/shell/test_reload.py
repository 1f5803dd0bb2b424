"""Reload: by signal, by file, by call; whole or not at all."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from router.config import Config, load
from router.control.reload import ConfigReloader
from router.errors import ConfigError
from tests.support.certificates import certificate
from tests.unit.test_config_checks import CASES, Bad

GOOD_REGION = '[[regions]]\nname = "us-east"\nbackends = []\n'
GOOD = f'[router]\npolicy = "ttft"\n{GOOD_REGION}'


class Applied:
    """Takes configurations, and refuses some."""

    def __init__(self) -> None:
        self.current: Config | None = None
        self.policies: list[str] = []
        self.refuses: str | None = None

    def __call__(self, old: Config, new: Config) -> None:
        self.policies.append(new.router.policy)
        self.current = new
        if new.router.policy == self.refuses:
            raise OSError("no room")


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    path = tmp_path / "regions.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
async def watched(file: Path) -> AsyncIterator[tuple[ConfigReloader, Applied]]:
    applied = Applied()
    reloader = ConfigReloader(load(file), [applied], poll_s=0.02)
    reloader.start()
    try:
        yield reloader, applied
    finally:
        await reloader.stop()


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to that"
        await asyncio.sleep(0.01)


def put(path: Path, text: str) -> None:
    """As an editor does: a new file in place of the old."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)


async def test_a_changed_file_is_in_force_within_a_second(file: Path, watched: tuple[ConfigReloader, Applied]) -> None:
    reloader, applied = watched
    put(file, GOOD.replace("ttft", "p2c"))
    await until(lambda: reloader.generation == 2)
    assert applied.policies == ["p2c"]
    assert reloader.config.router.policy == "p2c"


async def test_sighup_reloads(file: Path, watched: tuple[ConfigReloader, Applied]) -> None:
    reloader, applied = watched
    for n in range(20):
        file.write_text(GOOD.replace("ttft", ("p2c", "nearest")[n % 2]))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda n=n: reloader.generation == n + 2)
    assert len(applied.policies) == 20


async def test_touching_the_file_changes_nothing(file: Path, watched: tuple[ConfigReloader, Applied]) -> None:
    reloader, applied = watched
    put(file, GOOD + "# a comment\n")
    await asyncio.sleep(0.4)
    assert (reloader.generation, applied.policies) == (1, [])


async def test_a_certificate_that_is_replaced_is_read_again_also_by_a_link_that_moves(tmp_path: Path) -> None:
    """As Kubernetes replaces a Secret: the files are links through a folder's link, which is swapped."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        certificate(tmp_path / folder, "tls")
    (tmp_path / "data").symlink_to("one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"data/{name}")
    file = tmp_path / "regions.toml"
    file.write_text(f'[router]\ntls_cert = "{tmp_path}/tls.crt"\ntls_key = "{tmp_path}/tls.key"\n{GOOD_REGION}')
    renewed: list[str] = []
    reloader = ConfigReloader(load(file), [], poll_s=0.02, renew=lambda: renewed.append("again"))
    reloader.start(hangups=False)
    try:
        await asyncio.sleep(0.2)
        assert renewed == []
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(tmp_path / "data")
        await until(lambda: renewed)
        assert (reloader.generation, reloader.refused) == (1, None)
        await asyncio.sleep(0.2)
        assert renewed == ["again"]
    finally:
        await reloader.stop()


async def test_a_removed_file_leaves_the_old_in_force_until_it_is_back(
    file: Path, watched: tuple[ConfigReloader, Applied]
) -> None:
    reloader, applied = watched
    file.unlink()
    await until(lambda: reloader.refused)
    assert reloader.refused is not None
    assert "cannot be read" in reloader.refused.problems[0]
    assert (reloader.generation, applied.policies) == (1, [])
    put(file, GOOD.replace("ttft", "p2c"))
    await until(lambda: reloader.generation == 2)
    assert reloader.refused is None


async def test_the_end_of_a_refusal_is_noted(file: Path, watched: tuple[ConfigReloader, Applied]) -> None:
    reloader, _ = watched
    told: list[tuple[object, object]] = []

    def note(kind: str, subject: str, **about: str | None) -> None:
        told.append((about["before"], about["after"]))

    reloader.note = note
    good = file.read_text()
    put(file, "[nonsense")
    await until(lambda: reloader.refused)
    put(file, good)
    await until(lambda: reloader.refused is None)
    await reloader.reload("asked")
    assert told == [("generation 1", "refused"), ("refused", "generation 1")]


async def test_a_file_written_bit_by_bit_is_taken_when_it_is_whole(
    file: Path, watched: tuple[ConfigReloader, Applied]
) -> None:
    reloader, _ = watched
    text = GOOD.replace("ttft", "p2c") + '[plans.gold]\nconcurrent = 1\npriority = "batch"\n'
    with file.open("w") as out:
        for character in text:
            out.write(character)
            out.flush()
            await asyncio.sleep(0.005)
    await until(lambda: "gold" in reloader.config.plans and reloader.config.plans["gold"].priority == "batch")
    assert reloader.config.router.policy == "p2c"


@pytest.mark.parametrize("case", [c for c in CASES if c.name not in ("deep", "huge integer")], ids=lambda c: c.name)
async def test_no_bad_file_takes_the_place_of_a_good_one(file: Path, case: Bad) -> None:
    applied = Applied()
    reloader = ConfigReloader(load(file), [applied])
    before = reloader.config
    file.write_text(case.text)
    with pytest.raises(ConfigError) as caught:
        await reloader.reload("test")
    assert all(p.startswith(str(file)) for p in caught.value.problems)
    assert (reloader.config, reloader.generation, applied.policies) == (before, 1, [])
    assert reloader.refused is not None
    file.write_text(GOOD.replace("ttft", "p2c"))
    assert (await reloader.reload("test")).changed


async def test_a_file_that_lost_its_regions_is_refused(file: Path) -> None:
    file.write_text(GOOD.replace("[]", '[{name = "a", url = "http://127.0.0.1:1"}]'))
    reloader = ConfigReloader(load(file), [])
    texts = {
        "": "is empty",
        "# a comment": "is empty",
        '[router]\npolicy = "ttft"\n': "names no backend",
        GOOD.replace("backends = []", ""): "names no backend",
        GOOD: "would remove every backend",
        "regions = []": "would remove every backend",
    }
    for text, why in texts.items():
        file.write_text(text)
        with pytest.raises(ConfigError, match=why):
            await reloader.reload("test")


async def test_a_file_that_lost_the_residency_of_the_default_plan_is_refused(file: Path) -> None:
    regions = GOOD.replace(
        "backends = []", 'jurisdiction = "eu"\nbackends = [{name = "a", url = "http://127.0.0.1:1"}]'
    )
    file.write_text(regions + '[plans.default]\nresidency = ["eu"]\n')
    reloader = ConfigReloader(load(file), [])
    for text in (regions, regions + "[plans.europe]\nresidency = ['eu']\n"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="would lose the residency"):
            await reloader.reload("test")
    file.write_text(regions + "[plans.default]\n")
    assert (await reloader.reload("test")).changed, "a plan that is written out is meant"


async def test_what_cannot_be_put_in_force_is_taken_back_everywhere(file: Path) -> None:
    first, second, third = Applied(), Applied(), Applied()
    reloader = ConfigReloader(load(file), [first, second, third])
    old = reloader.config
    second.refuses = "p2c"
    file.write_text(GOOD.replace("ttft", "p2c"))
    with pytest.raises(ConfigError, match="cannot be put in force: OSError: no room"):
        await reloader.reload("test")
    assert (first.policies, second.policies, third.policies) == (["p2c", "ttft"], ["p2c", "ttft"], [])
    assert first.current is old
    assert (reloader.config, reloader.generation) == (old, 1)


async def test_a_fault_while_taking_back_ends_neither_the_others_nor_the_watch(
    file: Path, watched: tuple[ConfigReloader, Applied]
) -> None:
    reloader, applied = watched

    def broken(old: Config, new: Config) -> None:
        if "gold" in new.plans or "gold" in old.plans:
            raise AttributeError("a fault of ours")

    reloader._appliers = (applied, broken)
    put(file, GOOD.replace("ttft", "p2c") + "[plans.gold]\nconcurrent = 1\n")
    await until(lambda: reloader.refused)
    assert applied.policies == ["p2c", "ttft"]
    put(file, GOOD.replace("ttft", "nearest"))
    await until(lambda: reloader.generation == 2)
    assert applied.policies == ["p2c", "ttft", "nearest"]


async def test_reloads_at_the_same_time_come_one_after_the_other(file: Path) -> None:
    applied = Applied()
    reloader = ConfigReloader(load(file), [applied])
    file.write_text(GOOD.replace("ttft", "p2c"))
    results = await asyncio.gather(*(reloader.reload("test") for _ in range(5)))
    assert [r.changed for r in results] == [True, False, False, False, False]
    assert {r.generation for r in results} == {2}


async def test_each_problem_and_each_change_is_logged(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router.control")
    reloader = ConfigReloader(load(file), [])
    file.write_text(GOOD + "[routr]\n[timeouts]\nconnect = 0\n")
    with pytest.raises(ConfigError):
        await reloader.reload("SIGHUP")
    assert "refused (SIGHUP), generation 1 stays" in caplog.text
    assert 'did you mean "router"' in caplog.text
    assert "must be above 0" in caplog.text
    file.write_text(GOOD.replace("ttft", "p2c"))
    await reloader.reload("SIGHUP")
    assert "generation 2 in force (SIGHUP)" in caplog.text
    assert 'router.policy: "ttft" -> "p2c"' in caplog.text


async def test_a_text_that_is_checked_has_its_own_name(file: Path) -> None:
    reloader = ConfigReloader(load(str(file)), [])
    with pytest.raises(ConfigError) as refused:
        await reloader.check("[[regins]]", "other.toml")
    assert refused.value.problems
    assert all(problem.startswith("other.toml:") for problem in refused.value.problems)
