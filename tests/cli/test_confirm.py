"""Before something is taken away somebody is told what, and asked."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cli.commands import chaos, drain, keys, quota, regions
from cli.confirm import confirm, lost
from cli.context import Context
from cli.errors import CliError, Exit
from cli.output import Output
from tests.cli.conftest import Json, Play

LOSSES: Json = {
    "of": "eu-central",
    "backends": ["eu-central/a"],
    "models": ["llama"],
    "jurisdictions": ["eu"],
    "plans": [{"plan": "gdpr", "models": ["llama"]}],
    "share": 0.41,
    "requests": 41,
    "inflight": 5,
    "room": 3,
    "loses": True,
}
NOTHING: Json = LOSSES | {"models": [], "jurisdictions": [], "plans": [], "inflight": 0, "loses": False}
LOSSES_OF = ("GET", "/admin/v1/regions/eu-central/losses")
DRAIN = ("POST", "/admin/v1/regions/eu-central/drain")
NOTICE = ("POST", "/admin/v1/regions/eu-central/notice")
DRAINED: Json = {"name": "eu-central", "inflight": 0, "applied": "all routers", "shared": True}
KEY: Json = {"id": "key_1", "name": "me", "tenant": "acme", "plan": "gold", "created_s": 1.0, "revoked": False}
BUDGET: Json = {"limit": "budget", "max": 5.0, "used": 0.04, "remaining": 4.96, "reset_s": 9e5, "scope": "global"}
QUOTA: Json = {
    "key": {"id": "key_1", "name": "me"},
    "last_minute": {"requests": 41, "tokens": 900, "refused": 0},
    "limits": [BUDGET],
}


class Person(io.StringIO):
    """A terminal with somebody at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_terminal(play: Play, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Play]:
    """The same with a person who types this."""

    def sit(typed: str) -> Play:
        play.context.out = Output(play.stdout, play.stderr, env={"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "200"})
        monkeypatch.setattr(sys, "stdin", Person(typed))
        return play

    return sit


def changed(play: Play) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in play.admin.calls if method != "GET"]


def commands(force: bool) -> list[tuple[str, Callable[[Context], Any], tuple[str, str]]]:
    """Every command that takes something away, and what it changes."""
    fault: Json = {"fault": "refuse"}
    return [
        ("drain", lambda c: drain.run_drain(c, drain.DrainOptions("eu-central", force=force)), DRAIN),
        (
            "revoke",
            lambda c: keys.run_revoke(c, keys.KeyOptions("key_1", False, force)),
            ("DELETE", "/admin/v1/keys/key_1"),
        ),
        (
            "reset",
            lambda c: quota.run_reset(c, quota.ResetOptions("key_1", False, force=force)),
            ("DELETE", "/admin/v1/quotas/key_1"),
        ),
        (
            "chaos",
            lambda c: chaos.run_start(c, chaos.StartOptions("eu-central", fault, 1, None, None, "60s", False, force)),
            ("POST", "/admin/v1/chaos"),
        ),
    ]


def answers(play: Play, losses: Json = LOSSES, used: Json = QUOTA) -> None:
    play.admin.answers = {
        LOSSES_OF: losses,
        DRAIN: DRAINED,
        NOTICE: DRAINED | {"leaving": {"in_s": 120.0, "by": "me"}},
        ("GET", "/admin/v1/keys/key_1"): KEY,
        ("GET", "/admin/v1/quotas"): {"data": [used]},
        ("DELETE", "/admin/v1/keys/key_1"): KEY | {"revoked": True},
        ("DELETE", "/admin/v1/quotas/key_1"): used,
        ("POST", "/admin/v1/chaos"): {"data": []},
    }


@pytest.mark.parametrize("number", range(4), ids=[name for name, _, _ in commands(False)])
def test_without_a_terminal_it_wants_force(play: Play, number: int) -> None:
    answers(play)
    _, run, change = commands(False)[number]
    with pytest.raises(CliError) as caught:
        run(play.context)
    assert caught.value.code is Exit.USAGE
    assert "--force" in (caught.value.hint or "")
    assert caught.value.details, "it says what would be lost"
    assert changed(play) == []
    _, run, change = commands(True)[number]
    run(play.context)
    assert changed(play) == [change]
    assert "!" in play.err, "it is said all the same"


@pytest.mark.parametrize("number", range(4), ids=[name for name, _, _ in commands(False)])
@pytest.mark.parametrize(
    ("typed", "done"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_at_a_terminal_it_asks(at_terminal: Callable[[str], Play], number: int, typed: str, done: bool) -> None:
    play = at_terminal(typed)
    answers(play)
    _, run, change = commands(False)[number]
    if done:
        run(play.context)
    else:
        with pytest.raises(CliError, match="nothing was done"):
            run(play.context)
    assert "[y/N]" in play.err
    assert changed(play) == ([change] if done else [])


@pytest.mark.parametrize("number", range(4), ids=[name for name, _, _ in commands(False)])
def test_where_nothing_is_lost_nobody_is_asked(play: Play, number: int) -> None:
    unused = QUOTA | {"last_minute": {"requests": 0, "tokens": 0, "refused": 0}, "limits": [BUDGET | {"used": 0.0}]}
    answers(play, NOTHING, unused)
    _, run, change = commands(False)[number]
    run(play.context)
    assert changed(play) == [change]


def test_what_would_be_lost_is_said() -> None:
    text = "\n".join(lost(LOSSES))
    for part in ("llama", "jurisdiction eu", "plan gdpr", "room for 3", "41 %", "41 requests"):
        assert part in text
    assert lost(NOTHING) == []
    assert lost(None) == []


def test_the_month_is_what_a_reset_of_the_minute_leaves_alone(play: Play) -> None:
    answers(play)
    play.admin.answers["DELETE", "/admin/v1/quotas/key_1?what=minute"] = QUOTA
    quota.run_reset(play.context, quota.ResetOptions("key_1", False, minute=True))
    assert changed(play) == [("DELETE", "/admin/v1/quotas/key_1?what=minute")]
    with pytest.raises(CliError) as caught:
        quota.run_reset(play.context, quota.ResetOptions("key_1", False, month=True))
    assert "$0.04 of $5.00" in caught.value.details[0]


def test_a_delay_breaks_nothing(play: Play) -> None:
    answers(play)
    fault: Json = {"fault": "delay", "delay_s": 1.0}
    chaos.run_start(play.context, chaos.StartOptions("eu-central", fault, 1, None, None, "60s", False))
    assert changed(play) == [("POST", "/admin/v1/chaos")]


def test_remove_asks_too(play: Play, tmp_path: Any) -> None:
    from router.config import EXAMPLE

    file = tmp_path / "regions.toml"
    file.write_text(EXAMPLE)
    play.admin.answers = {("GET", "/admin/v1/regions/us-east/losses"): LOSSES | {"of": "us-east"}}
    with pytest.raises(CliError) as caught:
        regions.run_remove(play.context, regions.RemoveOptions("us-east", str(file)))
    assert caught.value.code is Exit.USAGE
    assert file.read_text() == EXAMPLE


@pytest.mark.parametrize(("typed", "force", "given"), [("y\n", False, True), ("\n", False, False), ("", True, True)])
def test_a_notice_asks_at_a_terminal(at_terminal: Callable[[str], Play], typed: str, force: bool, given: bool) -> None:
    play = at_terminal(typed)
    answers(play)
    options = regions.NoticeOptions("eu-central", "2m", cancel=False, as_json=False, force=force)
    if given:
        regions.run_notice(play.context, options)
    else:
        with pytest.raises(CliError, match="nothing was done"):
            regions.run_notice(play.context, options)
    assert "jurisdiction eu" in play.err
    assert changed(play) == ([NOTICE] if given else [])


def test_a_notice_without_a_terminal_is_given_and_says_what_is_lost(play: Play) -> None:
    """It comes from a hook of a machine that goes away, whatever is answered."""
    answers(play)
    regions.run_notice(play.context, regions.NoticeOptions("eu-central", "2m", cancel=False, as_json=False))
    assert "jurisdiction eu" in play.err
    assert changed(play) == [NOTICE]


def test_nothing_to_lose_nothing_to_say(play: Play) -> None:
    confirm(play.context, "x", [], force=False)
    assert play.err == ""
