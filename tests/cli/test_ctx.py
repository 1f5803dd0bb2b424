"""``router ctx``, and ``--context`` with every command that asks a router."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.app import build
from cli.docs import commands
from tests.support.cli import Done, router

STATUS = {"name": "edge-2", "role": "admin", "token_needed": True}


class Router(http.server.BaseHTTPRequestHandler):
    """Answers every path alike, and takes down who asked."""

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers.get("authorization"))  # type: ignore[attr-defined]
        body = json.dumps(STATUS).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str | None]]]:
    """The address of a router, and the tokens that it gets."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Router)
    server.tokens = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.tokens  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_command_that_asks_a_router_takes_a_context() -> None:
    for name, command in commands(get_command(build()), "router"):
        flags = [p.opts[0] for p in command.params]
        if name != "router ctx add":
            assert ("--admin-url" in flags) == ("--context" in flags), name


def test_a_context_from_its_first_day_to_its_last(tmp_path: Path, asked: tuple[str, list[str | None]]) -> None:
    url, tokens = asked

    def run(*words: str, code: int = 0, **more: str) -> Done:
        done = router(*words, env={"XDG_CONFIG_HOME": str(tmp_path), "ROUTER_ADMIN_URL": ""} | more)
        assert done.code == code, done
        return done

    assert "ctx add" in run("ctx", "list").err
    secret = tmp_path / "secret"
    secret.write_text("token-of-a-file\n")
    secret.chmod(0o644)
    assert "chmod 600" in run("ctx", "add", "one", "--admin-url", url, "--token-file", str(secret), code=2).err
    secret.chmod(0o600)
    run("ctx", "add", "one", "--admin-url", url, "--token-file", str(secret))
    run("ctx", "add", "two", "--admin-url", url, "--admin-token", "token-of-a-flag")
    assert "already" in run("ctx", "add", "two", "--admin-url", url, code=2).err

    listed = json.loads(run("ctx", "list", "--json").out)
    assert [(place["name"], place["current"]) for place in listed["data"]] == [("one", True), ("two", False)]
    assert "token-of" not in run("ctx", "list").out
    assert Path(listed["data"][1]["token_file"]).stat().st_mode & 0o777 == 0o600

    assert "edge-2" in run("operators", "whoami").out
    run("operators", "whoami", "--context", "two")
    run("--context", "two", "operators", "whoami")
    run("operators", "whoami", ROUTER_CONTEXT="two")
    run("operators", "whoami", "--context", "two", "--admin-token", "another")
    given = ["token-of-a-file", *["token-of-a-flag"] * 3, "another"]
    assert tokens == [f"Bearer {token}" for token in given]

    run("ctx", "use", "two")
    shown = json.loads(run("ctx", "show", "--json").out)
    assert (shown["context"], shown["admin_url"], shown["from"], shown["token"]) == (
        "two",
        url,
        "current context",
        True,
    )
    assert json.loads(run("ctx", "show", "--admin-url", "http://x", "--json").out)["from"] == "--admin-url"
    assert 'did you mean "two"' in run("ctx", "use", "twoo", code=2).err

    run("ctx", "remove", "two")
    assert not Path(listed["data"][1]["token_file"]).exists()
    assert json.loads(run("ctx", "list", "--json").out)["current"] is None
    run("ctx", "remove", "one")
    assert secret.exists(), "a token file that was not made here is left alone"


def test_an_error_says_which_context_was_asked(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path), "ROUTER_ADMIN_URL": ""}
    assert router("ctx", "add", "gone", "--admin-url", "http://127.0.0.1:1", env=env).code == 0
    done = router("status", env=env)
    assert done.code == 3
    assert "the context gone (current context)" in done.err
