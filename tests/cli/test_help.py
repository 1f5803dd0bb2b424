"""Flags that every command has, and lines that cannot be parsed, told as all errors are."""

from __future__ import annotations

import socket
import time

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.app import build
from cli.docs import commands
from cli.errors import Exit
from tests.support.admin_stand_in import StandIn

EVERY = dict(commands(get_command(build()), "router"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("status --nothing", "no such option: --nothing"),
        ("traffic list --jsn", "no such option: --jsn (Possible options: --json, --since)"),
        ("regions lst", "no such command 'lst'. Did you mean 'list', 'set'?"),
        ("regions show", "missing argument 'NAME'"),
        ("traffic list -n 0", "invalid value for '--limit' / '-n': 0 is not in the range 1<=x<=1000"),
        ("status x", "got unexpected extra argument(s) (x)"),
    ],
)
def test_a_wrong_line_is_told_as_all_errors_are(line: str, says: str) -> None:
    done = CliRunner().invoke(build(), line.split())
    first, usage, hint = done.stderr.splitlines()
    command = " ".join(word for word in line.split() if word.isalpha() and word not in ("lst", "x"))
    assert (done.exit_code, done.stdout, first) == (Exit.USAGE, "", f"error: {says}")
    assert usage.startswith("Usage: ")
    assert hint.endswith(f"{command} --help` says more.")


def test_a_group_alone_shows_its_commands() -> None:
    done = CliRunner().invoke(build(), ["regions"])
    assert done.exit_code == Exit.USAGE
    assert "burn-in" in done.output
    assert "error" not in done.output


def test_the_list_of_a_group_cuts_no_text() -> None:
    for group in (
        "regions",
        "keys",
        "config",
        "traffic",
        "quota",
        "ctx",
        "operators",
        "chaos",
        "sim",
        "policies",
        "routers",
    ):
        assert "..." not in CliRunner().invoke(build(), [group]).output.partition("Commands:")[2], group


def test_every_command_is_quiet_on_demand_and_those_that_ask_have_a_timeout() -> None:
    for name, command in EVERY.items():
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert {"--quiet", "-q"} <= flags, name
        assert ("--timeout" in flags) == ("--admin-url" in flags and name != "router ctx add"), name


def test_quiet_leaves_results_and_errors() -> None:
    made = {"id": "key_1", "name": "me", "plan": "default", "key": "mr-secret"}
    with StandIn({("POST", "/admin/v1/keys"): made, ("GET", "/admin/v1/keys"): {"data": []}}) as admin:
        line = ["keys", "create", "me", "--admin-url", admin.url]
        loud, still = CliRunner().invoke(build(), line), CliRunner().invoke(build(), [*line, "-q"])
        assert (loud.stdout, still.stdout) == ("mr-secret\n", "mr-secret\n")
        assert "only once" in loud.stderr
        assert still.stderr == ""
        nobody = CliRunner().invoke(build(), ["keys", "show", "you", "--quiet", "--admin-url", admin.url])
    assert (nobody.exit_code, nobody.stderr.splitlines()[0]) == (Exit.USAGE, 'error: there is no key "you"')


def test_a_router_that_hangs_is_left_after_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began_s = time.monotonic()
        done = CliRunner().invoke(build("status"), ["status", "--timeout", "0.5", "--admin-url", url])
    assert time.monotonic() - began_s >= 0.5
    assert done.exit_code == Exit.UNREACHABLE
    error, hint = done.stderr.splitlines()
    assert error == f"error: the router's admin API at {url} does not answer: nothing came within 0.5 s"
    assert "may be stopped or overloaded" in hint
    assert "--timeout waits longer" in hint
    assert "router serve" not in hint, "one is there"
