"""The doctor about the router that runs."""

from __future__ import annotations

from typing import Any

import pytest

from cli.doctor import of_router
from cli.errors import CliError, Exit, SilentError, StatusError
from tests.cli.conftest import Play

STATUS = ("GET", "/admin/v1/status")


def status(router: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    told = {"name": "edge", "version": "1", "config_generation": 3, "uptime_s": 60.0, "ready": True}
    told |= {"config_source": "/etc/r.toml", "config_refused": None, "config_pending": []} | (router or {})
    return {"router": told, "store": {"state": "up", "notice": None}} | more


def states(play: Play, path: str = "/etc/r.toml") -> list[tuple[str, str]]:
    return [(s.state, s.text) for s in of_router.look(play.context, path)]


def test_no_router_is_no_failure(play: Play) -> None:
    play.admin.answers = {STATUS: CliError("refused", code=Exit.UNREACHABLE)}
    assert states(play) == [("ok", "none runs there")]


def test_a_router_that_hangs_is_one(play: Play) -> None:
    play.admin.answers = {STATUS: SilentError("it does not answer", code=Exit.UNREACHABLE)}
    assert states(play) == [("fail", "it does not answer")]


def test_a_router_that_does_not_let_one_in(play: Play) -> None:
    play.admin.answers = {STATUS: StatusError(401, {"message": "The admin token is missing or wrong."})}
    assert states(play) == [("fail", "the admin token is missing or wrong.")]


def test_a_router_that_is_well(play: Play) -> None:
    play.admin.answers = {STATUS: status()}
    ((state, text),) = states(play)
    assert (state, "generation 3" in text) == ("ok", True)


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (status({"ready": False, "not_ready": "no usable backend"}), "fail", "no usable backend"),
        (status({"config_refused": {"at_s": 1.0, "problems": ["r.toml:3: bad"]}}), "fail", "r.toml:3: bad"),
        (status({"config_pending": ['router.listen: "a" -> "b"']}), "warn", "pending until restart: router.listen"),
        (status(store={"state": "down", "notice": "the store is away"}), "fail", "the store is away"),
        (status(store={"state": "up", "notice": "maxmemory-policy is lru"}), "warn", "maxmemory-policy"),
        (status(differences=["us/c only on edge-1"]), "warn", "us/c only on edge-1"),
        (status(troubles=["edge-2 would not start again"]), "fail", "edge-2 would not start again"),
        (status(fleet={"silent": ["edge-2"]}), "fail", "does not answer"),
        (status({"config_source": "/other.toml"}), "warn", "it runs /other.toml"),
    ],
)
def test_what_is_wrong_is_said(play: Play, answer: Any, state: str, words: str) -> None:
    play.admin.answers = {STATUS: answer}
    assert [found for found, text in states(play) if words in text] == [state]
