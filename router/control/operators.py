"""Who may operate: tokens with a name and a role, in a file that only this user may read.

The file is made at the first start, with one token for the role admin. It is read again whenever it has changed: a
token that is taken out of it is refused at once. A file that is wrong changes nothing; the last good one holds.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from router import clock
from router.complaint import Complaint
from router.config import Config, secret
from router.config.names import name_problem
from router.core.suggest import did_you_mean
from router.errors import ConfigError
from router.words import plural

_log = logging.getLogger("router.control")

#: Each may do what those before it may: look; drain, give notice, reload; make keys and operators.
ROLES = ("read", "operate", "admin")
TOKEN_LENGTH = 16
#: The operator of ``[auth] admin_token_env``, and the first one of a file.
FIRST = "admin"
_PREFIX = "mra-"
_MODE = 0o600
_HEAD = """\
# Who may operate the router. Each operator has a name, which the history shows, and a role:
# read (look), operate (drain, give notice, reload, faults on purpose), admin (all that, keys, quotas and operators).
# Instead of `token` a file may have `token_sha256`. Changes are in force at once. Keep the mode at 0600.
"""


class Operator(NamedTuple):
    name: str
    role: str
    digest: bytes  # SHA-256 of the token

    def may(self, role: str) -> bool:
        return ROLES.index(role) <= ROLES.index(self.role)


class Operators:
    """Everybody who has a token. ``path`` None: only the one whose token is given, if there is one."""

    def __init__(self, token: str | None = None, path: str | None = None) -> None:
        """Raises ConfigError for a file that cannot be used, or made."""
        self.path = None if path is None else Path(path)
        self._fixed = [] if token is None else [Operator(FIRST, "admin", _digest(token))]
        self._entries: dict[str, dict[str, Any]] = {}
        self._of_file: list[Operator] = []
        self._signature: tuple[int, int, int] | None = None
        self._complaint = Complaint()
        if self.path is not None:
            self._begin(self.path)

    def __repr__(self) -> str:
        return f"<Operators {len(self.all())}>"

    def all(self) -> list[Operator]:
        return [*self._fixed, *self._of_file]

    @property
    def needed(self) -> bool:
        """Whether a token is needed at all."""
        return self.path is not None or bool(self._fixed)

    def find(self, token: bytes) -> Operator | None:
        """Whose token it is. Each is compared, so that the time tells nothing."""
        self._refresh()
        digest, found = hashlib.sha256(token).digest(), None
        for operator in self.all():
            if hmac.compare_digest(operator.digest, digest):
                found = operator
        return found

    def add(self, name: str, role: str) -> str:
        """A new operator; returns the token, which the file has too. Raises ValueError, and OSError."""
        self._read_latest()
        if self.path is None:
            raise ValueError("This router has no file of operators: set [auth] operators.")
        if any(operator.name == name for operator in self.all()):
            raise ValueError("There is an operator of this name already.")
        if (problem := name_problem(name)) is not None or role not in ROLES:
            raise ValueError(f"The name {problem}." if problem else f"A role is one of {', '.join(ROLES)}.")
        token = _PREFIX + secrets.token_urlsafe(24)
        self._write(self.path, self._entries | {name: {"role": role, "token": token}})
        return token

    def remove(self, name: str) -> bool:
        """False: there is none in the file. Raises ValueError for the last one who may everything, and OSError."""
        self._read_latest()
        if self.path is None or name not in self._entries:
            return False
        rest = {other: entry for other, entry in self._entries.items() if other != name}
        if not self._fixed and not any(entry["role"] == "admin" for entry in rest.values()):
            raise ValueError("Nobody with the role admin would be left.")
        self._write(self.path, rest)
        return True

    # the file

    def _begin(self, path: Path) -> None:
        try:
            if not path.exists():
                first = {} if self._fixed else {FIRST: {"role": "admin", "token": _PREFIX + secrets.token_urlsafe(24)}}
                self._write(path, first)
                _log.warning("%s was made; it has the token of the operator %s", path, FIRST)
            self._read(path)
        except (OSError, ValueError) as error:
            problem = f"[auth] operators: {_told(path, error)}"
            raise ConfigError(str(path), [problem]) from None

    def _refresh(self) -> None:
        if self.path is None or _signature(self.path) == self._signature:
            return
        try:
            self._read(self.path)
        except (OSError, ValueError) as error:
            told = _told(self.path, error)
            if self._complaint.worth_a_line(told, clock.monotonic_s()):
                _log.error("the operators are as they were: %s", told)
        else:
            self._complaint.settled()
            _log.info("%s is in force: %s", self.path, plural(len(self._of_file), "operator"))

    def _read_latest(self) -> None:
        """Before a change. Raises ValueError for a file that is wrong: what somebody has written there is not lost."""
        if self.path is None or _signature(self.path) == self._signature:
            return
        try:
            self._read(self.path)
        except (OSError, ValueError) as error:
            raise ValueError(f"The file of operators is left as it is: {_told(self.path, error)}.") from None

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise ValueError(f"others can read it (mode {stat.S_IMODE(status.st_mode):04o}): chmod 600 {path}")
            document = tomllib.loads(file.read().decode())
        self._entries, self._of_file = _checked(document, {operator.digest for operator in self._fixed})
        self._signature = _signature(path)

    def _write(self, path: Path, entries: dict[str, dict[str, Any]]) -> None:
        """Whole or not at all, also for a reader at the same time."""
        text = _HEAD + "".join(_lines(name, entry) for name, entry in entries.items())
        beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        self._read(path)


def operators_of(config: Config) -> Operators:
    """Who may operate. Makes the file of the first start. Raises ConfigError."""
    auth = config.auth
    return Operators(secret(auth.admin_token_env) if auth.admin_token_env else None, auth.operators)


def file_problem(path: str) -> str | None:
    """Why a router would not start with this file of operators, or None. Makes none."""
    folder = Path(path).absolute().parent
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        _checked(tomllib.loads(Path(path).read_text("utf-8")), ())
    except FileNotFoundError:
        if not folder.is_dir():
            return f"{path} cannot be made: there is no folder {folder}"
        return (
            None if os.access(folder, os.W_OK | os.X_OK) else f"{path} cannot be made: {folder} may not be written to"
        )
    except (OSError, ValueError) as error:
        return _told(Path(path), error)
    return f"{path}: others can read it (mode {mode:04o}): chmod 600 {path}" if mode & 0o077 else None


def _checked(document: dict[str, Any], taken: Iterable[bytes]) -> tuple[dict[str, dict[str, Any]], list[Operator]]:
    """The entries of a file and what they mean. Raises ValueError with the first problem."""
    entries = document.pop("operators", {})
    if document or not isinstance(entries, dict):
        raise ValueError("it has tables [operators.NAME] only")
    seen, found = set(taken), []
    for name, entry in entries.items():
        operator = _operator(name, entry)
        if operator.digest in seen:
            raise ValueError(f"[operators.{name}] has the token of another operator")
        seen.add(operator.digest)
        found.append(operator)
    return entries, found


def _operator(name: str, entry: Any) -> Operator:
    where = f"[operators.{name}]"
    if (problem := name_problem(name)) is not None:
        raise ValueError(f"{where}: the name {problem}")
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise ValueError(f"{where} has a role and a token, which are strings")
    known = ("role", "token", "token_sha256")
    for key in entry:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{did_you_mean(key, known)}")
    if (role := entry.get("role")) not in ROLES:
        raise ValueError(f"{where}: role is one of {', '.join(ROLES)}")
    token, digest = entry.get("token"), entry.get("token_sha256")
    if (token is None) is (digest is None):
        raise ValueError(f"{where} needs token or token_sha256")
    if token is not None:
        if len(token) < TOKEN_LENGTH:
            raise ValueError(f"{where}: the token has fewer than {TOKEN_LENGTH} characters")
        return Operator(name, role, _digest(token))
    try:
        raw = bytes.fromhex(str(digest))
    except ValueError:
        raw = b""
    if len(raw) != hashlib.sha256().digest_size:
        raise ValueError(f"{where}: token_sha256 has 64 hexadecimal digits")
    return Operator(name, role, raw)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _lines(name: str, entry: dict[str, Any]) -> str:
    """JSON writes strings as TOML reads them."""
    return f"\n[operators.{json.dumps(name)}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in entry.items())


def _told(path: Path, error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else str(error)
    return f"{path}: {text}"


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file does, or its mode."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino
