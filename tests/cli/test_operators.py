"""``router operators``: who may operate, as seen from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.commands.operators import (
    AddOptions,
    ListOptions,
    NameOptions,
    run_add,
    run_list,
    run_remove,
    run_whoami,
)
from cli.errors import CliError
from tests.cli.conftest import Play
from tests.support.cli import router

PATH = "/admin/v1/operators"


def test_the_token_stands_alone_on_stdout(play: Play) -> None:
    play.admin.answers = {("POST", PATH): {"name": "anna", "role": "operate", "token": "mra-secret"}}
    run_add(play.context, AddOptions("anna", "operate", as_json=False))
    assert play.out == "mra-secret\n"
    assert "role operate" in play.err
    assert play.admin.calls == [("POST", PATH, {"name": "anna", "role": "operate"})]
    run_add(play.context, AddOptions("anna", "operate", as_json=True))
    assert json.loads(play.out.partition("\n")[2])["token"] == "mra-secret"


def test_list_and_whoami(play: Play) -> None:
    play.admin.answers = {("GET", PATH): {"data": [{"name": "anna", "role": "read"}], "file": "operators.toml"}}
    run_list(play.context, ListOptions(as_json=False))
    assert play.out.split() == ["operator", "role", "anna", "read"]
    play.admin.answers = {("GET", PATH): {"data": [], "file": None}}
    run_list(play.context, ListOptions(as_json=False))
    assert "the section auth" in play.err
    play.admin.answers = {("GET", "/admin/v1/whoami"): {"name": "anna", "role": "read", "token_needed": True}}
    run_whoami(play.context, ListOptions(as_json=False))
    assert play.out.endswith("anna, role read\n")


def test_removing_somebody_unknown_says_where_to_look(play: Play) -> None:
    play.admin.answers = {("DELETE", f"{PATH}/anna"): {"name": "anna", "removed": True}}
    run_remove(play.context, NameOptions("anna", as_json=False))
    assert "anna may not operate any more" in play.out
    play.admin.answers[("GET", PATH)] = {"data": [{"name": "anna", "role": "operate"}]}
    with pytest.raises(CliError, match='there is no operator "ana", did you mean "anna"') as caught:
        run_remove(play.context, NameOptions("ana", as_json=False))
    assert caught.value.hint == "There are: anna."


def test_a_router_that_cannot_read_its_operators_says_so_and_leaves_nothing_open(tmp_path: Path) -> None:
    operators = tmp_path / "operators.toml"
    operators.write_text("[operators.a]\nrole = 'boss'\ntoken = '0123456789abcdef'\n")
    operators.chmod(0o600)
    (tmp_path / "regions.toml").write_text(
        f'[router]\nlisten = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n[auth]\noperators = "{operators}"\n'
        '[[regions]]\nname = "us"\n[[regions.backends]]\nname = "a"\nurl = "http://127.0.0.1:1"\n'
    )
    done = router("serve", cwd=tmp_path)
    assert done.code == 1
    assert "role is one of" in done.err
    assert "Unclosed" not in done.err
    assert "Traceback" not in done.err
