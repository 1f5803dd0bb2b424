"""The lines of tabs and of keys."""

from __future__ import annotations

import pytest

from cli.commands.top import TABS
from cli.top.foot import foot_line, names, tab_at, tab_line


@pytest.mark.parametrize("width", [24, 40, 60, 80, 200])
def test_a_click_finds_the_tab_that_is_written_there(width: int) -> None:
    line = tab_line("keys", width).plain
    assert len(line) <= width
    for number, tab in enumerate(TABS, 1):
        assert tab_at(line.index(str(number)), "keys", width) == tab
    assert tab_at(len(line) + 1, "keys", width) is None


def test_names_are_whole_where_there_is_room() -> None:
    assert names("keys", 80) == ["1 regions", "2 backends", "3 models", "4 keys", "5 requests", "6 events"]
    assert names("keys", 46)[1] == "2 bac"
    assert names("keys", 30) == ["1", "2", "3", "4 keys", "5", "6"]
    assert names("keys", 10) == ["1", "2", "3", "4", "5", "6"]


def test_the_keys_that_are_needed_most_stay() -> None:
    wide = foot_line(120, detail=False, acts=True, read_only=False).plain
    assert wide.index("q quit") < wide.index("⏎ open") < wide.index("d drain")
    assert foot_line(20, detail=False, acts=True, read_only=False).plain.strip() == "q quit  ? help"
    assert "drain" not in foot_line(120, detail=False, acts=False, read_only=True).plain
    assert "read only" in foot_line(120, detail=False, acts=False, read_only=True).plain
    assert foot_line(120, detail=True, acts=False, read_only=False).plain.startswith(" Esc back")
    assert "filter: status:5xx" in foot_line(120, detail=False, acts=False, read_only=False, words="status:5xx").plain
