"""One frame for pipes and scripts."""

from __future__ import annotations

import io

import pytest

from cli.commands import top
from cli.commands.top import TABS
from cli.context import Context
from cli.errors import CliError, Exit
from cli.output import Output
from cli.top.once import frame, sheet_of
from tests.support.admin_stand_in import StandIn
from tests.support.fleet_on_show import NOW_S, answers
from tests.support.top_views import stand_still, view_of


def printed(tab: str, words: str = "", columns: str | None = None) -> str:
    stdout = io.StringIO()
    out = Output(stdout, io.StringIO(), env={} if columns is None else {"COLUMNS": columns})
    frame(out, view_of(), tab, NOW_S, words=words)
    return stdout.getvalue()


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_has_a_frame_without_colours(tab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)
    told = printed(tab)
    assert told.startswith("● 2 routers")
    assert "! 1 down: eu-central/b (4m 12s, refused)" in told
    assert "\x1b" not in told
    assert len(told.splitlines()) >= 4
    assert sheet_of(view_of(), tab, NOW_S).rows
    narrow = printed(tab, columns="60")
    assert max(map(len, narrow.splitlines()[3:])) <= 60


def test_rows_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)
    assert "us-east/a" not in printed("backends", "state:ejected")
    assert "no such rows" in printed("backends", "state:nothing")


def test_the_command_prints_and_ends() -> None:
    stdout = io.StringIO()
    with StandIn(answers()) as admin:
        ctx = Context(out=Output(stdout, io.StringIO(), env={}), env={}, admin_url=admin.url)
        top.run_top(ctx, top.TopOptions(1.0, once=True, tab="regions"))
        with pytest.raises(CliError) as wrong:
            top.run_top(ctx, top.TopOptions(1.0, once=True, tab="nothing"))
    assert "eu-central" in stdout.getvalue()
    assert wrong.value.code is Exit.USAGE
    gone = Context(out=Output(stdout, io.StringIO(), env={}), env={}, admin_url="http://127.0.0.1:1")
    with pytest.raises(CliError) as caught:
        top.run_top(gone, top.TopOptions(1.0, once=True))
    assert caught.value.code is Exit.UNREACHABLE
