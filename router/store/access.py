"""Checks at the start that the store permits everything that this router does.

Each kind of command is tried once on each kind of key, without changing anything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from router.core.limits import KINDS, Amounts, Limits, cost
from router.store.courier import Command, call
from router.store.keysync import KEYS, PEPPER, RUNTIME, VERSION
from router.store.notes import note_key
from router.store.scripts import (
    Script,
    Scripts,
    Word,
    account_keys,
    grant_args,
    head,
    purse_keys,
    reserve_args,
    settle_args,
)

#: Stands for a key's id, a note's digest and a field's name.
CHECK = "check"
_LIMITS = Limits(*[10**9] * len(KINDS))
_NOTHING, _ONE = cost(Amounts(0)), cost(Amounts(1))
_LEASE_US = 1_000_000


class Need(NamedTuple):
    """A command, and the work that needs it."""

    keys: str  # a pattern, as an access list writes it
    what: str
    command: Command


def needs(scripts: Scripts, router: str) -> list[Need]:
    account, slot = purse_keys(CHECK, router), f"{router}.{CHECK}"
    start: list[Word] = head(_LIMITS, _LEASE_US, None)
    quotas = [
        call(scripts.reserve, account, [*start, *reserve_args([(_NOTHING, (slot,))])]),
        call(scripts.grant, account, [*start, *grant_args(_ONE, 1, ())]),
        call(scripts.settle, account, [*start, *settle_args(_ONE, 0, 1, (slot,), (), ())]),
        call(scripts.look, account_keys(CHECK), start),
    ]
    note = note_key(CHECK, CHECK)
    notes = [("SET", note, "", "PX", 1000), ("GET", note), ("DEL", note)]
    own: list[tuple[Word, ...]] = [
        ("HSCAN", KEYS, 0, "COUNT", 1),
        ("HGET", KEYS, CHECK),
        ("HDEL", KEYS, CHECK),
        ("GET", PEPPER),
        ("INCRBY", VERSION, 0),
        ("HGETALL", RUNTIME),
        ("HDEL", RUNTIME, CHECK),
    ]
    return [
        *(Need("mr:*", "quotas", command) for command in quotas),
        *(Need("mr:*", "notes", Command(words)) for words in notes),
        *(Need("{mr}:*", "API keys and drains", Command(words)) for words in own),
    ]


def refused(wanted: Sequence[Need], replies: Sequence[Any]) -> str | None:
    """The store's own words for the first command that it does not permit; None: it permits all."""
    return next(refusals(wanted, replies), None)


def why(what: str, keys: str, reply: object, script: Script | None = None) -> str:
    """One line for the log. ``script``: the one that was run, if any."""
    told = str(reply).partition("\n")[0]
    words = told.removeprefix("ACL failure in script: ").partition(" script: ")[0]
    words = words.partition(", with args")[0][:160]
    if script is not None and (at := _LINE.search(told)) is not None and (verb := _verb(script, int(at[1]))):
        words = f"{words} ({verb})"
    return f"its user may not do what {what} need (keys {keys}): {words}"


def _verb(script: Script, line: int) -> str | None:
    """The command of this line of a script: before 7.2 Redis tells nothing else about it."""
    lines = script.text.splitlines()
    found = _CALL.search(lines[line - 1]) if 0 < line <= len(lines) else None
    return None if found is None else found[1].lower()


def is_refusal(reply: object) -> bool:
    """The answer says that our user may not do this, or nobody, in a command or inside a script."""
    return isinstance(reply, Exception) and any(w in f"{type(reply).__name__} {reply}" for w in _WORDS)


_WORDS = (
    "NoPermission",
    "NOPERM",
    "ACL failure",
    "no permissions to",
    "nknown command",
    "nknown Redis command",
    "The user executing the script can't",  # Redis 6 and 7.0, inside a script
)
_LINE = re.compile(r"on @user_script:(\d+)")
_CALL = re.compile(r"redis\.p?call\('(\w+)'")


def refusals(wanted: Sequence[Need], replies: Sequence[Any]) -> Iterator[str]:
    """A line for each command that the store does not permit."""
    for need, reply in zip(wanted, replies, strict=True):
        if is_refusal(reply):
            yield why(need.what, need.keys, reply, need.command.script)
