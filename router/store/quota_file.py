"""The use of each account, in a file: a router that is started again while the store is away has no second share.

While the store is up the file gets the standing of the accounts that have changed, now and then. While it is away a
router *claims* a part of its share in the file before it gives out any of it, so whoever reads the file after a
``kill -9`` knows of everything that was given out, and counts what was claimed as used. An account that a file does not
have may have been used to the end: its rates begin with nothing and fill with time. So however often a router is
killed, it gives out no more than one share. Where no router has left a file, nothing can be known.

The file stands beside the snapshot of the keys and belongs to its owner alone. Lines are added to it; the last one of
an account holds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from router.complaint import Complaint
from router.core.limits import KINDS, NOTHING, RATES, Units
from router.core.quota import MINUTE_US, Standing
from router.store.degraded import Recalled, Share

#: Standings are written no more often than this while the store is up.
PAUSE_S = 5.0
#: Most accounts that are remembered; the one that was written longest ago is forgotten.
ACCOUNTS_MAX = 16_384
#: The file is written as a whole when it is this much longer than it was the last time.
GROWTH_BYTES = 1 << 20
_FORMAT = 1
_MODE = 0o600

_log = logging.getLogger("router.store")


class QuotaFile:
    """``path`` None: nothing is written, and nothing is known at the start."""

    def __init__(self, path: str | None, *, wall_s: Callable[[], float]) -> None:
        self.path = None if path is None else Path(f"{path}.quotas")
        self.routers = 1  # that shared the limits when the file was written
        self._found = False
        self._wall_s = wall_s
        self._last: OrderedDict[str, Recalled] = OrderedDict()
        self._at_start: dict[str, Standing] = {}
        self._waiting: dict[str, tuple[Share, Recalled]] = {}  # claims that are to be written
        self._turn = asyncio.Lock()
        self._added_bytes = GROWTH_BYTES  # since it was written as a whole
        self._complaint = Complaint()

    def __repr__(self) -> str:
        return f"<QuotaFile {self.path} {len(self._last)} accounts>"

    def load(self) -> None:
        """Read what the last router of this file knew."""
        if self.path is None:
            return
        try:
            with self.path.open("rb") as file:
                self._found = True
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                    raise ValueError(f"{self.path} must belong to this user alone (mode 0600)")
                lines = file.read().splitlines()
            head = orjson.loads(lines[0])
            if head["format"] != _FORMAT or head["kinds"] != [kind.name for kind in KINDS]:
                raise ValueError(f"{self.path} is not one of this version")
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
            _log.warning("where the quotas stood is not known: %s", error)
            return
        self.routers = max(1, int(head["routers"]))
        for line in lines[1:]:
            self._read(line)
        self._at_start = {account: known.standing for account, known in self._last.items()}

    def _read(self, line: bytes) -> None:
        """The last line may be cut off."""
        try:
            account, now_us, used, ends = orjson.loads(line)
        except ValueError:
            return
        self._keep(account, Recalled(Standing(now_us, tuple(used)), None if ends is None else tuple(ends)))

    def at_start(self, account: str) -> Standing | None:
        """Where an account stood in the file, once: the store is told, as it may have lost that."""
        return self._at_start.pop(account, None)

    def recall(self, account: str, now_us: int) -> Recalled | None:
        """Where an account stands, as far as a router can know that has not reached the store since it was started.
        None: there was no router before it."""
        known = self._last.get(account)
        if known is not None or not self._found:
            return known
        used = list(NOTHING)
        for i in RATES:
            used[i] = MINUTE_US
        return Recalled(Standing(now_us, tuple(used)))

    # while the store is away

    async def cover(self, account: str, share: Share, cost: Units, now_us: int) -> None:
        """Claim what is missing for this, and wait until it is in the file. Nothing is missing when the share itself
        has not got more, and where there is not a file."""
        while self.path is not None and (claim := share.claim(cost, now_us)) is not None:
            if account not in self._waiting:
                self._waiting[account] = (share, claim)
            async with self._turn:
                waiting, self._waiting = self._waiting, {}
                if waiting:
                    await self._write((name, claim) for name, (_, claim) in waiting.items())
                for claiming, claim in waiting.values():
                    claiming.claimed = claim.standing

    # while it is up, and at the end

    async def save(self, known: Iterable[tuple[str, Recalled]], routers: int) -> None:
        """Write what has changed."""
        if self.path is None:
            return
        changed = [(name, each) for name, each in known if self._last.get(name) != each]
        if routers != self.routers:
            self.routers, self._added_bytes = routers, GROWTH_BYTES
        if changed:
            async with self._turn:
                await self._write(changed)

    async def _write(self, known: Iterable[tuple[str, Recalled]]) -> None:
        lines = [self._line(name, each) for name, each in known]
        whole = self._added_bytes >= GROWTH_BYTES
        if whole:
            head = {"format": _FORMAT, "routers": self.routers, "kinds": [kind.name for kind in KINDS]}
            lines = [orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE)]
            lines += [self._line(name, each) for name, each in list(self._last.items())]
        text = b"".join(lines)
        assert self.path is not None
        try:
            await asyncio.to_thread(_replace if whole else _append, self.path, text)
        except OSError as error:
            self._added_bytes = GROWTH_BYTES  # what is there may be cut off
            why = f"{self.path}: {error.strerror}"
            if self._complaint.worth_a_line(why, self._wall_s()):
                _log.warning("where the quotas stand cannot be written: %s", why)
            return
        self._complaint.settled()
        self._added_bytes = 0 if whole else self._added_bytes + len(text)

    def _line(self, account: str, known: Recalled) -> bytes:
        self._keep(account, known)
        line = [account, known.standing.now_us, known.standing.used, known.ends]
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def _keep(self, account: str, known: Recalled) -> None:
        self._last[account] = known
        self._last.move_to_end(account)
        if len(self._last) > ACCOUNTS_MAX:
            self._last.popitem(last=False)


def _append(path: Path, text: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
        file.write(text)
        file.flush()
        os.fdatasync(file.fileno())


def _replace(path: Path, text: bytes) -> None:
    """Whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
