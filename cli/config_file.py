"""Editing regions.toml: keep every comment, check the whole result, replace the file in one step."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.errors import CliError, Exit

if TYPE_CHECKING:
    from router.config import Config
    from router.errors import ConfigError


def refused(error: ConfigError, message: str | None = None) -> CliError:
    """The error that lists every problem of a file."""
    count = len(error.problems)
    return CliError(
        message or f"{error.source} has {count} problem{'s' if count != 1 else ''}",
        code=Exit.USAGE,
        details=error.problems,
    )


def read(path: str, *, secrets: bool = True, start: bool = False) -> Config:
    """The checked configuration; ``start``: to run it now. Raises CliError with all problems."""
    from router.config import load
    from router.errors import ConfigError

    if not Path(path).exists():
        raise missing(path)
    try:
        return load(path, secrets=secrets, start=start)
    except ConfigError as error:
        raise refused(error) from error


def missing(path: str) -> CliError:
    return CliError(
        f"there is no {path}",
        code=Exit.USAGE,
        hint="Write one with `router config init`, name another one (ROUTER_CONFIG), or see `router demo`.",
    )


def edited(path: str, change: Callable[[Any], None]) -> tuple[str, Config]:
    """The text of the file with ``change`` applied to its tomlkit document, and what it says. Nothing is written.

    Raises CliError if the old or the new text is wrong.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    from router.config import parse
    from router.errors import ConfigError

    if not Path(path).exists():
        raise missing(path)
    try:
        document = tomlkit.parse(Path(path).read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise CliError(f"cannot read {path}: {(error.strerror or str(error)).lower()}", code=Exit.USAGE) from error
    except (TOMLKitError, ValueError) as error:
        hint = "Mend it by hand; `router config check` tells where."
        raise CliError(f"{path}: {error}", code=Exit.USAGE, hint=hint) from error
    change(document)
    new = tomlkit.dumps(document)
    try:
        config = parse(new, path, secrets=False)
    except ConfigError as error:
        raise refused(error, f"{path} would be wrong, so it is left as it is") from error
    return new, config


def write(path: str, text: str) -> None:
    """Replace the file in one step: a reader sees the old text or the new one. Keeps the mode of an existing file."""
    target = Path(os.path.realpath(path))
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise CliError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def differences(answer: dict[str, Any], new: Config) -> list[str]:
    """What a reload of ``new`` would change in a router that answers so at /admin/v1/config, a line each."""
    from router.config import diff

    return diff(running(answer, new), new)


def known(value: Any) -> Any:
    """The document without null values, which TOML cannot express."""
    if isinstance(value, dict):
        return {key: known(inner) for key, inner in value.items() if inner is not None}
    return [known(inner) for inner in value] if isinstance(value, list) else value


def running(answer: dict[str, Any], new: Config) -> Config:
    """The configuration that a router says it runs. It does not show its store's password: that of ``new`` is used."""
    import tomlkit

    from router.config import dump, parse

    document = known(answer["config"])
    if document.get("store", {}).get("redis") == dump(new)["store"]["redis"] and new.store.redis is not None:
        document["store"]["redis"] = new.store.redis
    return parse(tomlkit.dumps(document), answer["source"], secrets=False, start=True)
