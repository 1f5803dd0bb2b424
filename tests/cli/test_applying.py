"""Texts that were in force are kept beside the router's file."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from cli import applying, config_file
from cli.commands import config, config_apply
from cli.errors import CliError, Exit, SilentError, StatusError
from router.control.config_views import file_of
from tests.cli.conftest import Json, Play

CONFIG, CHECK = ("GET", "/admin/v1/config"), ("POST", "/admin/v1/config/check")
RELOAD = ("POST", "/admin/v1/config/reload")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "regions.toml"
    path.write_text("first")
    return path


def runs(path: Path, **changes: object) -> Json:
    return {"source": str(path), "file": file_of(str(path)), "generation": 2, "refused": None, "pending": []} | changes


def texts(file: Path) -> list[str]:
    return [kept.path.read_text() for kept in applying.kept(str(file), file.read_text())]


def test_the_newest_texts_are_kept_each_once_and_with_the_mode_of_the_file(file: Path) -> None:
    file.chmod(0o640)
    for number in range(15):
        applying.keep(str(file), f"text {number}")
    applying.keep(str(file), "text 12")
    assert texts(file) == [f"text {n}" for n in (12, 14, 13, *range(11, 4, -1))]
    assert {kept.path.stat().st_mode & 0o777 for kept in applying.kept(str(file), "")} == {0o640}
    assert applying.folder(str(file)).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("step_ns", [1, 7 * 10**7, 3 * 10**8, 9 * 10**8, 10**9, 86_399 * 10**9])
def test_texts_are_in_the_order_of_their_times_also_when_a_second_ends(
    file: Path, monkeypatch: pytest.MonkeyPatch, step_ns: int
) -> None:
    """However far the clock goes between two looks at it."""
    monkeypatch.setattr(applying, "time", SteppingClock(step_ns))
    for number in range(10):
        applying.keep(str(file), f"text {number}")
    assert texts(file) == [f"text {n}" for n in range(9, -1, -1)]


class SteppingClock:
    """In place of the module ``time``: each look at it is a step later."""

    strftime = staticmethod(time.strftime)

    def __init__(self, step_ns: int) -> None:
        self._looks = itertools.count(1_790_000_000_999_999_900, step_ns)

    def time_ns(self) -> int:
        return next(self._looks)

    def gmtime(self, wall_s: float | None = None) -> time.struct_time:
        return time.gmtime(next(self._looks) // 10**9 if wall_s is None else wall_s)


def test_the_text_that_is_in_the_file_is_not_one_to_go_back_to(file: Path) -> None:
    for text in ("zero", "first"):
        applying.keep(str(file), text)
    assert texts(file) == ["zero"]


def test_a_link_has_its_texts_beside_its_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.toml"
    link.symlink_to(file)
    assert applying.folder(str(link)) == applying.folder(str(file))


def test_a_folder_that_nobody_may_write_to(file: Path, tmp_path: Path) -> None:
    applying.folder(str(file)).write_text("a file in its place")
    with pytest.raises(CliError, match="cannot keep") as caught:
        applying.keep(str(file), "x")
    assert "ConfigMap" in str(caught.value.hint)


def test_which_file_is_the_routers_own(play: Play, file: Path, tmp_path: Path) -> None:
    play.admin.answers = {CONFIG: runs(file)}
    assert applying.default_path(play.context) == str(file)
    assert applying.target(play.context)[1] == str(file)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    assert applying.is_own(runs(file), str(link))
    copy = tmp_path / "copy.toml"
    copy.write_text("first")
    assert not applying.is_own(runs(file), str(copy))
    play.admin.answers = {CONFIG: runs(file) | {"file": None}}
    assert applying.default_path(play.context) == "regions.toml"
    with pytest.raises(CliError, match="is not on this machine"):
        applying.target(play.context)
    play.admin.answers = {CONFIG: CliError("nobody", code=Exit.UNREACHABLE)}
    assert applying.default_path(play.context) == "regions.toml"
    play.admin.answers = {CONFIG: SilentError("it hangs", code=Exit.UNREACHABLE)}
    with pytest.raises(SilentError):
        applying.default_path(play.context)


def test_problems_are_told_with_the_name_of_the_file_that_was_given(play: Play, file: Path) -> None:
    refused = StatusError(422, {"message": "refused", "problems": [f"{file}:3: bad"]})
    play.admin.answers = {CONFIG: runs(file), CHECK: refused}
    with pytest.raises(CliError) as caught:
        applying.check(play.context, "text", "new.toml")
    assert (caught.value.code, caught.value.details) == (Exit.USAGE, ("new.toml:3: bad",))


def test_a_router_that_does_not_take_it_has_its_old_file_again(play: Play, file: Path) -> None:
    refused = StatusError(422, {"message": "x", "problems": ["p"]})
    play.admin.answers = {CONFIG: runs(file), CHECK: {}, RELOAD: refused}
    with pytest.raises(CliError, match="as it was"):
        applying.put(play.context, str(file), "second")
    assert file.read_text() == "first"
    play.admin.answers = {CONFIG: runs(file), CHECK: {}, RELOAD: {}}
    assert applying.put(play.context, str(file), "second")["generation"] == 2
    assert (file.read_text(), texts(file)) == ("second", ["first"])


def test_bytes_stay_as_they_are(file: Path) -> None:
    file.write_bytes("a\r\nb\u00e9".encode())
    text = applying.read(str(file))
    config_file.write(str(file), text)
    assert file.read_bytes() == "a\r\nb\u00e9".encode()
    with pytest.raises(CliError):
        applying.read(os.fspath(file.parent))


def test_whoever_runs_something_else_is_said_after_each_change_of_a_file(
    play: Play, file: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.toml"
    new.write_text("second")
    changes = ["plans.a.concurrent: 1 -> 2"]
    found = {"changes": changes, "warnings": [], "pending": [], "generation": 2}
    line = "configurations differ: edge-1 runs a; edge-2 runs b"
    answers = {CHECK: found, RELOAD: {"changed": True, "changes": changes, "generation": 3}}
    for differ in ([line], []):
        for change in (
            lambda: config_apply.run_apply(play.context, config_apply.ApplyOptions(str(new), True, False)),
            lambda: config.run_reload(play.context, config.ReloadOptions(as_json=False)),
        ):
            status = {("GET", "/admin/v1/status"): {"differences": differ}}
            play.admin.answers = answers | status | {CONFIG: runs(file)}
            before = len(play.err)
            change()
            assert (line in play.err[before:]) is bool(differ)


def test_what_would_be_gone() -> None:
    changes = ["regions.us: removed", "regions.eu.backends.a: removed", "plans.x: removed", "regions.ap: added"]
    assert applying.removed(changes) == ["us", "eu/a"]
