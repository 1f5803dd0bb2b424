"""Refusals of servers, of every version, are taken for refusals and named."""

from __future__ import annotations

import re

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from router.store import access
from router.store.courier import Command, call
from router.store.scripts import load_scripts

SCRIPTS = load_scripts()
#: As Valkey 9.1 and Redis 7.0 (7.0.15, which has no NOPERM here) said them.
NEWER = (
    "ACL failure in script: User meridian has no permissions to run the 'hset' command script: 3f, on @user_script:11."
)
OLDER = "The user executing the script can't run this command or subcommand script: 3f, on @user_script:{}."
OLDER_KEYS = "The user executing the script can't access at least one of the keys mentioned in the command arguments"


@pytest.mark.parametrize(
    "reply",
    [ResponseError(NEWER), ResponseError(OLDER.format(1)), ResponseError(OLDER_KEYS), NoPermissionError("no")],
    ids=["newer", "older", "older, keys", "a command"],
)
def test_a_refusal_is_told_from_other_errors(reply: Exception) -> None:
    assert access.is_refusal(reply)
    assert not access.is_refusal(ResponseError("WRONGTYPE Operation against a key"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_command_that_a_script_may_not_run_is_named_by_its_line(script: object) -> None:
    found = next(each for each in SCRIPTS if each is script)
    calls = [
        (number, verbs)
        for number, line in enumerate(found.text.splitlines(), start=1)
        if (verbs := re.findall(r"redis\.p?call\('(\w+)'", line))
    ]
    assert calls
    for number, verbs in calls:
        assert len(verbs) == 1, f"{found.name}: one call a line, or nobody can tell which was refused"
        need = access.Need("mr:*", "quotas", call(found, ["k"], []))
        (line_of,) = access.refusals([need], [ResponseError(OLDER.format(number))])
        assert line_of.endswith(f"subcommand ({verbs[0].lower()})")


def test_a_refusal_with_a_name_is_left_as_it_is() -> None:
    need = access.Need("mr:*", "notes", Command(("GET", "k")))
    words = "User meridian has no permissions to run the 'get' command"
    assert access.refused([need], [NoPermissionError(words)]) == (
        f"its user may not do what notes need (keys mr:*): {words}"
    )
    assert access.refused([need], [b"value"]) is None
