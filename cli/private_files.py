"""Files that only this user may read: the contexts, and the tokens that they name."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cli.errors import CliError, Exit

MODE = 0o600
_FOLDER_MODE = 0o700


def write(path: Path, text: str) -> None:
    """Replace the file in one step, with mode 0600, and make its folder. Raises CliError."""
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise CliError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def read_secret(path: Path) -> str:
    """The secret in a file, without the line's end. Raises CliError, also when others can read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            raw = file.read(64 * 1024)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CliError(f"cannot read the token in {path}: {reason}", code=Exit.USAGE) from error
    if mode & 0o077:
        raise CliError(
            f"others can read the token in {path} (mode {mode:04o})", code=Exit.USAGE, hint=f"chmod 600 {path}"
        )
    text = raw.decode("utf-8", "surrogateescape").strip()
    if not text or "\n" in text:
        raise CliError(f"{path} must hold one token, on one line", code=Exit.USAGE)
    return text
