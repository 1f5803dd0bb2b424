"""The API keys that a router knows, in a file beside it: a router that starts while the store is away serves them.

The file holds keyed hashes as the store does, and no secret of a client, and is for its owner only. Where the store has
a pepper of its own, that is in it; one from the environment is not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from router.complaint import Complaint
from router.store.base import StoreError
from router.store.keys import PEPPER_ENV, KeyRecord, Ring, fingerprint
from router.store.keysync import checked_pepper

#: The file is written no more often than this.
PAUSE_S = 1.0
_FORMAT = 1
_MODE = 0o600

_log = logging.getLogger("router.store")


class Snapshot:
    def __init__(self, path: str | None, ring: Ring, *, wall_s: Callable[[], float]) -> None:
        self._path = None if path is None else Path(path)
        self._ring = ring
        self._wall_s = wall_s
        self._saved = ring.changes
        self._complaint = Complaint()
        self.saved_s: float | None = None  # when the file was written that the ring was read from

    def __repr__(self) -> str:
        return f"<Snapshot {self._path}>"

    def load(self) -> None:
        """Fill the ring, if there is a file and it can be trusted."""
        if self._path is None:
            return
        try:
            told = self._read(self._path)
            pepper = checked_pepper(told["pepper"].encode(), os.environ.get(PEPPER_ENV, "").encode())
            records = [KeyRecord.of(each) for each in told["keys"]]
            saved_s = float(told["saved_s"])
        except FileNotFoundError:
            return
        except (OSError, StoreError, ValueError, TypeError, KeyError, AttributeError) as error:
            _log.warning("the snapshot of the API keys is not used: %s", error)
            return
        self._ring.load(records, pepper)
        self._saved, self.saved_s = self._ring.changes, saved_s

    async def run(self) -> None:
        """Write the file whenever keys have changed, until cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S)
            await self.save()

    async def save(self) -> None:
        if self._path is None or self._saved == self._ring.changes or not self._ring.loaded:
            return
        changes, text = self._ring.changes, self._text()
        try:
            await asyncio.to_thread(self._write, self._path, text)
        except OSError as error:
            why = f"{self._path}: {error.strerror}"
            if self._complaint.worth_a_line(why, self._wall_s()):
                _log.warning("the snapshot of the API keys cannot be written: %s", why)
            return
        self._complaint.settled()
        self._saved = changes

    def _text(self) -> bytes:
        from_env = os.environ.get(PEPPER_ENV, "").encode()
        pepper = f"env:{fingerprint(from_env)}" if from_env else f"raw:{self._ring.pepper.decode()}"
        keys = [record.document() for record in self._ring.records.values()]
        told = {"format": _FORMAT, "saved_s": self._wall_s(), "pepper": pepper, "keys": keys}
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise ValueError(f"{path} must belong to this user alone (mode 0600)")
            told = orjson.loads(file.read())
        if not isinstance(told, dict) or told.get("format") != _FORMAT:
            raise ValueError(f"{path} is not one of this version")
        return told

    @staticmethod
    def _write(path: Path, text: bytes) -> None:
        """Whole or not at all, also for a reader at the same time."""
        beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
