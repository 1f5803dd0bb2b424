"""The Lua scripts: their texts, arguments and replies. The only I/O is reading the files in ``lua/``."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from router.core.limits import KINDS, NAMES, REQUESTS, Limits, Shape, Units
from router.core.quota import Shortfall, Standing

_FOLDER = Path(__file__).with_name("lua")

Word = str | bytes | int

#: Fields of an account that hold the use of its rates and sums.
USED_FIELDS = tuple(kind.field for kind in KINDS if kind.field)
#: The words of a standing at the end of a reply.
_STANDING = 2 + len(KINDS)


class Script(NamedTuple):
    name: str
    text: str
    sha: str  # its name for EVALSHA


class Scripts(NamedTuple):
    reserve: Script
    settle: Script
    grant: Script
    look: Script
    heartbeat: Script
    exchange: Script
    marks: Script
    spend: Script


def load_scripts() -> Scripts:
    common = lua_kinds() + (_FOLDER / "common.lua").read_text()
    apart = {"heartbeat", "exchange", "marks", "spend"}
    return Scripts(*(_load(name, "" if name in apart else common) for name in Scripts._fields))


def lua_kinds() -> str:
    """``KINDS`` as a Lua table, with the facts that the scripts need."""
    rows = []
    for kind in KINDS:
        row = f"shape = '{kind.shape.value}'"
        if kind.field:
            row += f", field = '{kind.field}'"
        if kind.period is not None:
            row += f", period = '{kind.period.name}', period_field = '{kind.period.field}'"
        rows.append(f"  {{ {row} }}, -- {kind.name}\n")
    periods = dict.fromkeys(kind.period.field for kind in KINDS if kind.period is not None)
    limits = [f"l{kind.field}" for kind in KINDS if kind.shape is Shape.RATE]
    fields = ", ".join(f"'{field}'" for field in ("at", "n", "+u", *USED_FIELDS, *periods, *limits))
    names = {
        "FIELDS": fields,
        "USED_FIELDS": ", ".join(f"'{field}'" for field in USED_FIELDS),
        "BACK_FIELDS": ", ".join(["'+p'", *(f"'p{field}'" for field in USED_FIELDS)]),
    }
    lists = "".join(f"local {name} = {{ {fields} }}\n" for name, fields in names.items())
    return f"local KINDS = {{\n{''.join(rows)}}}\n{lists}"


def _load(name: str, before: str) -> Script:
    text = before + (_FOLDER / f"{name}.lua").read_text()
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def account_keys(account: str) -> list[str]:
    """The keys of one account; the hash tag keeps them on one node of a cluster."""
    return [f"mr:{{{account}}}:q", f"mr:{{{account}}}:c"]


def reset_of(account: str, kinds: Collection[str]) -> tuple[Word, ...]:
    """The command that forgets what was used of these kinds."""
    fields = [kind.field for kind in KINDS if kind.field and kind.name in kinds]
    return ("HDEL", account_keys(account)[0], *fields, *(f"h{field}" for field in fields))


def purse_keys(account: str, purse: str) -> list[str]:
    """The same, and what the store keeps of one purse: the number of its last settlement, and what it has taken."""
    return [*account_keys(account), f"mr:{{{account}}}:s:{purse}"]


def head(limits: Limits, lease_us: int, seen: Standing | None, now_us: int | None = None) -> list[Word]:
    """The arguments every script of an account begins with. ``seen`` is where the account stood when it was last seen,
    ``now_us`` None the server's clock."""
    memory = "" if seen is None else f"{seen.now_us} {' '.join(map(str, seen.used))}"
    most = [-1 if limit is None else limit for limit in limits.limits]
    return ["" if now_us is None else now_us, lease_us, *most, memory]


def reserve_args(questions: Sequence[tuple[Units, Sequence[str]]]) -> list[Word]:
    """Costs and new slots of requests, which are reserved one after the other."""
    args: list[Word] = [len(questions)]
    for cost, slots in questions:
        args += [*cost, len(slots), *slots]
    return args


def settle_args(
    back: Units, taken_us: int, number: int, release: Sequence[str], drop: Sequence[str], renew: Sequence[str]
) -> list[Word]:
    return [*back, taken_us, number, len(release), len(drop), *release, *drop, *renew]


def grant_args(want: Units, divisor: int, slots: Sequence[str]) -> list[Word]:
    return [*want, divisor, REQUESTS + 1, *slots]


def read_reserve(reply: Sequence[int]) -> tuple[list[Shortfall | None], Standing]:
    """The shortfall of each request, and where the account stands after the last."""
    end = len(reply) - _STANDING
    words = zip(reply[0:end:3], reply[1:end:3], reply[2:end:3], strict=True)
    found = [Shortfall(NAMES[kind - 1], bool(never), wait_us) if kind else None for kind, never, wait_us in words]
    return found, read_standing(reply[end:])


def read_settle(reply: Sequence[int]) -> tuple[bool, Standing]:
    return bool(reply[0]), read_standing(reply[1:])


def read_grant(reply: Sequence[int]) -> tuple[Units, Standing]:
    kinds = len(KINDS)
    return tuple(reply[:kinds]), read_standing(reply[kinds:])


def taken_by(purse_key: str) -> tuple[Word, ...]:
    """The command for all that a purse has taken so far; ``read_taken`` reads its reply."""
    return ("HMGET", purse_key, *USED_FIELDS)


def read_taken(reply: Sequence[bytes | None]) -> Units:
    found = dict(zip(USED_FIELDS, reply, strict=True))
    return tuple(int(found.get(kind.field) or 0) for kind in KINDS)


def read_standing(reply: Sequence[int]) -> Standing:
    now_us, born_us, *used = reply
    return Standing(now_us, tuple(used), born_us)


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
