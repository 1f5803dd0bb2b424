"""Puts a text in the place of the router's file: the router checks it first, texts that were in force are kept, the
file is replaced in one step, and the answer is what the router runs then.

Kept texts are files beside the router's, in ``regions.toml.generations``; the newest are kept, each text once.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from cli import config_file
from cli.context import Context
from cli.errors import CliError, Exit, StatusError, nobody_runs

Json = dict[str, Any]

KEPT = 10
#: ends the name of a kept text that was in force, and of one that was not
_GOOD, _REFUSED = "Z.toml", "Z.refused"
_CONFIG = "/admin/v1/config"
_PATIENCE_S, _LOOK_S = 5.0, 0.1


class KeptText(NamedTuple):
    """A text that was in force at ``at_s``. ``number``: how many others were in force since."""

    number: int
    path: Path
    at_s: float


def own_file(running: Json) -> str | None:
    """The router's file, if that is on this machine: not one of the same name on another one."""
    from router.control.config_views import file_of

    source: str = running["source"]
    told = running.get("file")
    return source if told is not None and file_of(source) == told else None


def is_own(running: Json, path: str) -> bool:
    """Whether ``path`` is the file of the router that runs this."""
    own = own_file(running)
    return own is not None and os.path.exists(path) and os.path.samefile(own, path)


def target(ctx: Context) -> tuple[Json, str]:
    """The running configuration and the path of its file. Raises CliError if the file is elsewhere."""
    running = ctx.admin.get(_CONFIG)
    path = own_file(running)
    if path is None:
        raise CliError(
            f"the file of the router at {ctx.admin.url}, {running['source']}, is not on this machine",
            hint="Run this where the router is; `router config diff FILE` works from everywhere.",
        )
    return running, path


def default_path(ctx: Context) -> str:
    """The file of the running router if it is on this machine, else ``regions.toml``."""
    try:
        return own_file(ctx.admin.get(_CONFIG)) or "regions.toml"
    except CliError as error:
        if not nobody_runs(error):
            raise
        return "regions.toml"


def check(ctx: Context, text: str, path: str) -> Json:
    """The answer of the running router about a text: changes, warnings, what waits for a restart. Raises CliError with
    all problems. ``path`` is the text's, for their places."""
    try:
        found: Json = ctx.admin.post(f"{_CONFIG}/check", {"text": text, "name": path})
    except StatusError as error:
        if error.status == 422:
            source = ctx.admin.get(_CONFIG)["source"]
            problems = [d.replace(f"{source}:", f"{path}:", 1) for d in error.details]
            message = f"the router refuses {path}, so nothing was changed"
            raise CliError(message, code=Exit.USAGE, details=problems) from error
        raise
    return found


def put(ctx: Context, path: str, text: str) -> Json:
    """Replace the router's file and wait until the router has read it. Returns the running configuration.

    If the router does not take the text after all, the old one is put back. Raises CliError.
    """
    before = read(path)
    keep(path, before, refused=not _is_good(ctx, before))
    if text != before:
        config_file.write(path, text)
    try:
        ctx.admin.post(f"{_CONFIG}/reload", {})
        running = _read_back(ctx)
    except StatusError as error:
        config_file.write(path, before)
        message = "the router did not take it, so the file is as it was"
        raise CliError(message, code=error.code, details=error.details or (error.message,)) from error
    keep(path, text)
    return running


def _is_good(ctx: Context, text: str) -> bool:
    """The text of the file may be one that the router has refused, or would."""
    try:
        ctx.admin.post(f"{_CONFIG}/check", {"text": text})
    except StatusError as error:
        if error.status != 422:
            raise
        return False
    return True


def _read_back(ctx: Context) -> Json:
    """The router's own watch of the file may be in the middle of the same reload."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        running: Json = ctx.admin.get(_CONFIG)
        if running.get("refused") is None or time.monotonic() > deadline_s:
            return running
        time.sleep(_LOOK_S)


def say_who_differs(ctx: Context) -> None:
    """After a change: which routers of the store have something else, as each reads a file of its own."""
    try:
        differ = ctx.admin.get("/admin/v1/status").get("differences", ())
    except CliError:
        return  # it is done all the same
    for line in differ:
        ctx.out.warn(line)
    if differ:
        ctx.out.note("Other routers share the store, and each router reads its own file.")


def read(path: str) -> str:
    """The text of a file, as it is. Raises CliError."""
    if not Path(path).exists():
        raise config_file.missing(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CliError(f"cannot read {path}: {reason.lower()}", code=Exit.USAGE) from error


# texts that were in force


def folder(path: str) -> Path:
    file = Path(os.path.realpath(path))
    return file.with_name(f"{file.name}.generations")


def kept(path: str, current: str) -> list[KeptText]:
    """The newest first, without the text that is in the file now."""
    found = [file for file in _files(path) if _text(file) != current]
    return [KeptText(number, file, file.stat().st_mtime) for number, file in enumerate(found, 1)]


def keep(path: str, text: str, *, refused: bool = False) -> None:
    """Keep a text as the newest. One that the router refused is kept, too, but is not one to go back to. Raises
    CliError."""
    place = folder(path)
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        for file in _files(path):
            if _text(file) == text:
                file.unlink()
        file = place / (_name_at(time.time_ns()) + (_REFUSED if refused else _GOOD))
        config_file.write(str(file), text)
        file.chmod(Path(path).stat().st_mode & 0o777)
        for file in [*_files(path)[KEPT:], *_files(path, _REFUSED)[KEPT:]]:
            file.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "Is the file a ConfigMap or an image's? Then change it where it comes from."
        raise CliError(f"cannot keep the text of {path} in {place}: {reason}", hint=hint) from error


def _name_at(wall_ns: int) -> str:
    """Sorts by time. Both halves are of one look at the clock: a second may end between two."""
    second, rest = divmod(wall_ns, 10**9)
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(second))}.{rest:09}"


def _files(path: str, ending: str = _GOOD) -> list[Path]:
    return sorted(folder(path).glob(f"*{ending}"), reverse=True)


def _text(file: Path) -> str | None:
    try:
        return read(str(file))
    except CliError:
        return None


def removed(changes: list[str]) -> list[str]:
    """The regions and backends that are gone after these changes."""
    names = []
    for change in changes:
        place, _, what = change.partition(": ")
        if place.startswith("regions.") and what == "removed":
            region, _, backend = place.removeprefix("regions.").partition(".backends.")
            names.append(f"{region}/{backend}" if backend else region)
    return names
