"""A router that is started where it cannot write: it says why it does not start, or goes on without."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.router import ROOT, free_port

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
