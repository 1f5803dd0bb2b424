"""``router top`` itself, in a real terminal, in front of a real router and simulated engines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("textual", reason="make install: Textual is missing")

from sim.fleet import SimFleet
from tests.support.cli import environment
from tests.support.router import ROOT, RouterProcess, Site
from tests.support.terminal import Screen, Terminal

HEAD = '[auth]\nmode = "open"\n[probes]\ninterval = 0.2\n'
MODEL = "llama-3.1-8b"
PLACES = {"us-east": (38.9, -77.0), "eu-central": (50.1, 8.7), "ap-northeast": (35.7, 139.7)}


@pytest.fixture(scope="module")
def router() -> Iterator[RouterProcess]:
    """In front of three regions of simulated engines."""
    with SimFleet(model=MODEL, rtt_ms={"us-east": 0, "eu-central": 60, "ap-northeast": 120}) as engines:
        sites = [
            Site(b.region, b.name.partition("/")[2], b.url, models=[MODEL], location=PLACES[b.region])
            for b in engines.backends
        ]
        with RouterProcess(sites, head=HEAD) as process:
            yield process


def live_view(router: RouterProcess, *options: str, size: tuple[int, int] = (100, 30)) -> Terminal:
    env = environment({"ROUTER_ADMIN_URL": router.admin, "TERM": "xterm-256color", "LANG": "C.UTF-8"})
    return Terminal([sys.executable, "-m", "cli", "top", "-i", "0.2", *options], env, size)


def begin_long_answer(router: RouterProcess) -> threading.Thread:
    """A stream that is on its way for some seconds."""
    body = {"model": MODEL, "stream": True, "max_tokens": 2000, "messages": [{"role": "user", "content": "Go on"}]}
    request = urllib.request.Request(
        f"{router.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )

    def read() -> None:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
        except OSError:
            pass  # the router is stopped meanwhile

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def again(router: RouterProcess) -> None:
    """Start it once more, where it was."""
    with router.log.open("ab") as log:
        router.process = subprocess.Popen(
            [sys.executable, *router.command, str(router.file)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=log,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
    router._told = False
    router.wait_for("/readyz")


def test_from_the_first_frame_to_the_last(router: RouterProcess) -> None:
    with live_view(router) as top:
        top.until("ap-northeast")
        assert b"\x1b[?1049h" in top.seen, "a screen of its own"
        clears = top.screen.clears
        begin_long_answer(router)
        top.type("5")
        top.until(lambda screen: any("stream" in line and MODEL in line for line in screen.lines))
        assert top.screen.clears == clears, "nothing flickers"
        top.resize(72, 20)
        text = top.until("q quit")
        assert max(map(len, text.splitlines())) <= 72
        assert "5 requests" in top.until("5 requests")
        top.type("\r")
        top.until("It is on its way.")
        top.type("\x1b")
        top.until("5 requests")
        top.type("q")
        assert top.end() == 0
        assert b"\x1b[?1049l" in top.seen, "and the old one is back"
        assert b"\x1b[?25h" in top.seen, "with its cursor"
        assert termios.tcgetattr(top.theirs) == top.before


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def until_stopped(top: Terminal) -> None:
    end_s = time.monotonic() + 30
    while not stopped(top.process.pid):
        assert time.monotonic() < end_s, "it is not stopped"
        top.read(0.05)
    while top.read(0.05):
        pass


def goes_on(top: Terminal) -> None:
    """It takes its screen again, draws it again, and hears keys."""
    top.screen.cells.clear()
    seen = len(top.seen)
    top.process.send_signal(signal.SIGCONT)
    top.until(lambda screen: "ap-northeast" in screen.text and b"\x1b[?1049h" in top.seen[seen:])
    top.type("?")
    top.until("Ctrl-Z")
    top.type("\x1b")
    top.until(lambda screen: "Ctrl-Z" not in screen.text)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc whether a process is stopped")
def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(router: RouterProcess) -> None:
    with live_view(router) as top:
        top.until("ap-northeast")
        for _ in range(2):
            seen = len(top.seen)
            top.type("\x1a")
            until_stopped(top)
            assert b"\x1b[?1049l" in top.seen[seen:], "the old screen is back"
            assert termios.tcgetattr(top.theirs) == top.before
            goes_on(top)
        top.type("q")
        assert top.end() == 0
        assert termios.tcgetattr(top.theirs) == top.before


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc whether a process is stopped")
def test_a_stop_without_a_word_does_not_leave_the_terminal_raw(router: RouterProcess) -> None:
    with live_view(router) as top:
        top.until("ap-northeast")
        for _ in range(2):
            top.process.send_signal(signal.SIGSTOP)
            until_stopped(top)
            goes_on(top)
        top.type("q")
        assert top.end() == 0
        assert termios.tcgetattr(top.theirs) == top.before


def test_a_drain_is_asked_about_and_done(router: RouterProcess) -> None:
    with live_view(router, "backends") as top:
        top.until("us-east/a")
        top.type("/")
        top.until("filter: words")
        top.type("us-east/a\r")
        top.until("filter: us-east/a")
        top.type("d")
        top.until("drain us-east/a?")
        top.type("n")
        top.until("nothing was done")
        top.type("d")
        top.until("drain us-east/a?")
        top.type("y")
        top.until("draining")
        (region,) = [r for r in router.ask_admin("/admin/v1/regions")["data"] if r["name"] == "us-east"]
        assert [b["draining"] for b in region["backends"]] == [True, False]
        top.type("r")
        top.until("resume us-east/a?")
        top.type("y")
        top.until("gets requests again")
        top.type("q")
        assert top.end() == 0


def test_it_goes_on_through_a_restart_of_the_router(router: RouterProcess) -> None:
    with live_view(router) as top:
        top.until("ap-northeast")
        router.terminate()
        router.process.wait(60)
        text = top.until("cannot reach")
        assert "figures of" in text
        assert "ap-northeast" in text, "the last figures stay, as old ones"
        again(router)

        def is_back(screen: Screen) -> bool:
            return "figures of" not in screen.text and "ap-northeast" in screen.text

        top.until(is_back)
        top.type("\x03")
        assert top.end() == 0
