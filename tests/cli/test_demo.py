"""router demo, whole: it shows what it promises, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.cli import environment, router
from tests.support.ports import free_port
from tests.support.processes import alive


def test_once(tmp_path: Path) -> None:
    done = router("demo", "--once", "--prompts", "2", env={"TMPDIR": str(tmp_path)}, timeout_s=110)
    assert done.code == 0, done
    for part in (
        r"us-east +2 engines · jurisdiction us · .* the router stands here",
        r"▶ us-east/[ab] · first token",
        r"▶ eu-central/[ab] · first token",
        r"us-east, ap-northeast outside the allowed jurisdictions",
        r"us-east +●+ +\d+ +first token after",
        r"✖ us-east is dead\n +▎ .*\n(?: +▎ .*\n)* +▶ us-east/[ab] → (?:eu-central|ap-northeast)/[ab] · first token",
        r"went on after [\d.]+ m?s: byte for byte the answer that comes undisturbed",
        r"every prompt was answered",
        r"429  Limit reached: 3 of 3 requests per minute",
    ):
        assert re.search(part, done.out), part
    assert "curl" not in done.out, "--once invites nobody"
    assert not os.listdir(tmp_path), "nothing is left behind"


def test_it_stays_up_until_it_is_told_to_end(tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    env = environment({"TMPDIR": str(tmp_path), "ROUTER_URL": f"http://127.0.0.1:{port}"})
    command = [sys.executable, "-m", "cli", "demo", "--prompts", "1", "--port", str(port), "--admin-port", str(admin)]
    with tempfile.TemporaryFile("w+") as out, subprocess.Popen(command, stdout=out, stderr=out, env=env) as demo:
        try:
            end_s = time.monotonic() + 90
            text = ""
            while "router top" not in text and time.monotonic() < end_s and demo.poll() is None:
                time.sleep(0.2)
                out.seek(0)
                text = out.read()
            assert "in use by another program" not in text, "these ports were asked for"
            key = re.search(r"export KEY=(mr-[\w-]+)", text)
            assert key is not None, text
            assert "router explain last" in text, "what nobody else has"
            answer = router("chat", "hello", "--max-tokens", "3", env={**env, "ROUTER_API_KEY": key[1]})
            assert answer.code == 0, answer
            children = _children(demo.pid)
            assert len(children) >= 7, "six engines and a router"
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(30) == 128 + signal.SIGTERM
            end_s = time.monotonic() + 30
            while (left := [pid for pid in children if alive(pid)]) and time.monotonic() < end_s:
                time.sleep(0.05)
            assert not left
            assert not os.listdir(tmp_path)
        finally:
            if demo.poll() is None:
                demo.kill()


@pytest.mark.real
def test_once_with_real_engines(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    done = router("demo", "--once", "--real", "--prompts", "1", env={"TMPDIR": str(tmp_path)}, timeout_s=110)
    assert done.code == 0, done
    assert "llama.cpp with SmolLM2-135M" in done.out
    assert "every prompt was answered" in done.out


def _children(pid: int) -> list[int]:
    """The direct children, read from the kernel."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("the kernel does not list children here")
    return [int(child) for child in path.read_text().split()]
