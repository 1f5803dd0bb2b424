"""The Lua scripts: their texts, their arguments and their replies. No I/O but reading the files beside this one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from router.core.quota import Cost, Grant, Limits, Standing, Verdict

_FOLDER = Path(__file__).with_name("lua")
_LIMITS = (None, "requests", "tokens", "concurrent", "budget")

Word = str | bytes | int


class Script(NamedTuple):
    name: str
    text: str
    sha: str  # what EVALSHA calls it


class Scripts(NamedTuple):
    reserve: Script
    settle: Script
    grant: Script
    look: Script
    heartbeat: Script
    exchange: Script
    marks: Script


def load_scripts() -> Scripts:
    common = (_FOLDER / "common.lua").read_text()
    apart = {"heartbeat", "exchange", "marks"}
    return Scripts(*(_load(name, "" if name in apart else common) for name in Scripts._fields))


def _load(name: str, before: str) -> Script:
    text = before + (_FOLDER / f"{name}.lua").read_text()
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def account_keys(key_id: str) -> list[str]:
    """The keys of one account; the hash tag keeps them on one node of a cluster."""
    return [f"mr:{{{key_id}}}:q", f"mr:{{{key_id}}}:c"]


def settle_keys(key_id: str, router: str) -> list[str]:
    return [*account_keys(key_id), f"mr:{{{key_id}}}:s:{router}"]


def head(limits: Limits, lease_us: int, seen: Standing | None, now_us: int | None = None) -> list[Word]:
    """The arguments every script of an account begins with. ``seen`` is where the account stood when it was last seen,
    ``now_us`` None the server's clock."""
    memory = "" if seen is None else f"{seen.now_us} {seen.requests_us} {seen.tokens_us} {seen.spent_microusd}"
    return ["" if now_us is None else now_us, lease_us, *(-1 if limit is None else limit for limit in limits), memory]


def reserve_args(cost: Cost, slots: Sequence[str]) -> list[Word]:
    return [*cost, *slots]


def settle_args(back: Cost, month: int, number: int, release: Sequence[str], renew: Sequence[str]) -> list[Word]:
    return [*back, month, number, len(release), *release, *renew]


def grant_args(want: Cost, divisor: int, slots: Sequence[str]) -> list[Word]:
    return [*want, divisor, *slots]


def read_reserve(reply: Sequence[int]) -> tuple[Verdict, Standing]:
    return Verdict(_LIMITS[reply[0]], bool(reply[1]), reply[2]), Standing(*reply[3:8])


def read_settle(reply: Sequence[int]) -> tuple[bool, Standing]:
    return bool(reply[0]), Standing(*reply[1:6])


def read_grant(reply: Sequence[int]) -> tuple[Grant, Standing]:
    return Grant(*reply[:4]), Standing(*reply[4:9])


def marks_args(keep: int, told: Sequence[tuple[tuple[str, str], float]]) -> list[Word]:
    args: list[Word] = [keep]
    for (kind, digest), left_s in told:
        args += [f"{kind}:{digest}", max(1, int(left_s * 1000))]
    return args


def read_marks(reply: Sequence[Any]) -> list[tuple[tuple[str, str], float]]:
    """Names and the seconds each has left."""
    pairs = zip(reply[::2], reply[1::2], strict=True)
    split = ((str(raw, errors="replace").partition(":"), left_ms) for raw, left_ms in pairs)
    return [((kind, digest), left_ms / 1000) for (kind, _, digest), left_ms in split]
