"""A router that is started where it cannot write or listen: it says why it does not start, or goes on without."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import ScriptedBackend
from tests.support.ports import free_port
from tests.support.router import ROOT
from tests.support.takeover import Load

FLEET = '[[regions]]\nname = "a"\nbackends = [{name = "x", url = "http://127.0.0.1:1"}]\n'


def written(folder: Path, *, workers: int = 1, journal: str = "journal") -> tuple[Path, str]:
    """The file, and where it says that operators ask."""
    admin = f"127.0.0.1:{free_port()}"
    store = '[store]\nredis = "embedded"\n' if workers > 1 else ""
    file = folder / "regions.toml"
    file.write_text(
        f'[router]\nlisten = "127.0.0.1:{free_port()}"\nadmin = "{admin}"\nworkers = {workers}\n{store}'
        f'[journal]\npath = "{folder / journal}"\n{FLEET}'
    )
    return file, admin


@pytest.mark.parametrize("workers", [1, 2])
def test_a_journal_that_cannot_be_made_ends_the_start_with_the_reason(tmp_path: Path, workers: int) -> None:
    (tmp_path / "file").write_text("in the way")
    file, _ = written(tmp_path, workers=workers, journal="file/journal")
    done = subprocess.run([sys.executable, "-m", "router", str(file)], cwd=ROOT, capture_output=True, timeout=60)
    text = done.stderr.decode()
    assert done.returncode == 1
    assert "[journal] path" in text
    assert "cannot be written" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_router_without_standard_streams_serves_and_writes_its_log_nowhere_else(tmp_path: Path, closed: str) -> None:
    file, admin = written(tmp_path)
    router = subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$0" -m router "$1" {closed}', sys.executable, str(file)], cwd=ROOT
    )
    try:
        deadline_s = time.monotonic() + 30
        while True:
            assert router.poll() is None, "it ended"
            try:
                with urllib.request.urlopen(f"http://{admin}/healthz", timeout=5) as answer:
                    assert answer.status == 200
                break
            except urllib.error.URLError:
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
    finally:
        router.terminate()
        assert router.wait(30) == 0
    assert (tmp_path / "journal").read_bytes() == b"", "the journal took the number of standard error"


@pytest.mark.parametrize(
    ("head", "what"),
    [
        ('workers = 2\n[store]\nredis = "redis://127.0.0.1:1"\n', "workers need a temporary folder"),
        ('[store]\nredis = "embedded"\n', "the embedded Valkey needs a temporary folder"),
    ],
)
def test_a_disk_without_a_temporary_folder_is_said_in_one_line(tmp_path: Path, head: str, what: str) -> None:
    file = tmp_path / "regions.toml"
    file.write_text(f'[router]\nlisten = "127.0.0.1:{free_port()}"\nadmin = "127.0.0.1:{free_port()}"\n{head}{FLEET}')
    code = f"""
import runpy, sys, tempfile
tempfile.tempdir = {str(tmp_path / "gone")!r}
sys.argv = ["router", {str(file)!r}]
runpy.run_module("router", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    [line] = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert what in line
    assert "TMPDIR" in line


def start(file: Path, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "router", str(file)], cwd=ROOT, **more)


def launch(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stderr:
        return subprocess.Popen(command, cwd=ROOT, stderr=stderr)


def until_alive(router: subprocess.Popen[bytes], admin: str, timeout_s: float = 30) -> bool:
    """Whether it serves operators. False: it has ended."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if router.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(f"http://{admin}/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.05)
    raise AssertionError("it neither serves nor ends")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_router_on_the_same_addresses_says_so_in_one_line_and_ends(tmp_path: Path, workers: int) -> None:
    file, admin = written(tmp_path, workers=workers)
    first = start(file, stderr=subprocess.DEVNULL)
    try:
        assert until_alive(first, admin)
        for shares in (False, True):
            if shares:
                file.write_text(file.read_text().replace("[router]\n", "[router]\nshare_port = true\n"))
            second = subprocess.run(
                [sys.executable, "-m", "router", str(file)], cwd=ROOT, capture_output=True, timeout=60
            )
            [line] = second.stderr.decode().splitlines()
            assert second.returncode == 1
            assert "is in use by another process. Change it with [router] listen, or --listen." in line
        assert until_alive(first, admin), "the first one is not disturbed"
    finally:
        first.terminate()
        assert first.wait(30) == 0


def test_a_router_that_was_killed_leaves_nothing_that_hinders_the_next(tmp_path: Path) -> None:
    """Its sockets, the folders of its workers and its Valkey stay behind; its workers are about to end."""
    file, admin = written(tmp_path, workers=2)
    first = start(file, stderr=subprocess.DEVNULL)
    try:
        assert until_alive(first, admin)
    finally:
        first.kill()
        first.wait(30)
    deadline_s = time.monotonic() + 30
    while True:
        second = start(file, stderr=subprocess.DEVNULL)
        try:
            if until_alive(second, admin):
                break
            assert time.monotonic() < deadline_s, "the addresses stay in use"
        finally:
            second.terminate()
            code = second.wait(30)
        time.sleep(0.1)
    assert code == 0


def mounts() -> bool:
    """May this user mount a small disk of its own?"""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(tried, capture_output=True).returncode == 0


@pytest.mark.skipif(not mounts(), reason="this user may not mount a disk")
async def test_a_disk_that_fills_up_is_said_once_and_clients_are_served_on(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    async with ScriptedBackend() as b:
        file, admin = written(tmp_path, journal="small/journal")
        text = file.read_text().replace(FLEET, "") + '[auth]\nmode = "open"\n'
        file.write_text(
            f'{text}[[regions]]\nname = "a"\nbackends = [{{name = "x", url = "{b.url}", models = ["m"]}}]\n'
        )
        listen = tomllib.loads(file.read_text())["router"]["listen"]
        script = 'mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" -m router "$3"'
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        router = launch([*command, "sh", str(small), sys.executable, str(file)], tmp_path / "log")
        try:
            assert await asyncio.to_thread(until_alive, router, admin)
            async with Load(listen, kept=4, fresh=0, streams=2) as load, asyncio.timeout(60):
                while load.answered < 500:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        finally:
            router.terminate()
            code = await asyncio.to_thread(router.wait, 30)
        assert code == 0
        assert load.failed == []
        said = (tmp_path / "log").read_text()
        assert said.count("the journal cannot be written, its lines are lost: No space left on device") == 1


async def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    async with ScriptedBackend() as b:
        file, admin = written(tmp_path)
        text = file.read_text().replace(FLEET, "") + '[auth]\nmode = "open"\n'
        file.write_text(
            f'{text}[[regions]]\nname = "a"\nbackends = [{{name = "x", url = "{b.url}", models = ["m"]}}]\n'
        )
        listen = tomllib.loads(file.read_text())["router"]["listen"]
        router = launch([sys.executable, "-m", "router", str(file)], Path("/dev/full"))
        try:
            assert await asyncio.to_thread(until_alive, router, admin)
            async with Load(listen, kept=4, fresh=0, streams=2) as load, asyncio.timeout(60):
                while load.answered < 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        finally:
            router.terminate()
            code = await asyncio.to_thread(router.wait, 30)
    assert code == 0
    assert load.failed == []
