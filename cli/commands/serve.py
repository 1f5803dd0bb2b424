"""router serve: the router itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from cli.context import ConfigPath, Context, context
from cli.errors import CliError, Exit


class LogFormat(StrEnum):
    AUTO = "auto"
    JSON = "json"
    HUMAN = "human"


@dataclass(frozen=True, slots=True)
class ServeOptions:
    config: str
    listen: str | None
    admin: str | None
    policy: str | None
    log_format: str


def command(
    ctx: typer.Context,
    config: ConfigPath = "regions.toml",
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="For clients, instead of the file's.")] = None,
    admin: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="For operators, likewise.")] = None,
    policy: Annotated[str | None, typer.Option(help="Instead of the file's, until the file is read again.")] = None,
    log_format: Annotated[LogFormat, typer.Option(help="json, human, or auto: human on a terminal.")] = LogFormat.AUTO,
) -> None:
    """Run the router. SIGTERM or Ctrl-C end it when its answers are finished; SIGHUP reads the file again."""
    context(ctx).run(run_serve, ServeOptions(config, listen, admin, policy, log_format.value))


def run_serve(ctx: Context, options: ServeOptions) -> Exit:
    from cli import config_file
    from router.config import parse
    from router.errors import ConfigError

    config = config_file.read(options.config, start=True)
    asked = {"listen": options.listen, "admin": options.admin, "policy": options.policy}
    given = {name: value for name, value in asked.items() if value is not None}
    if given:
        # Checked like the file itself: an open router on a public address is refused however it is asked for.
        try:
            config = parse(_overridden(options.config, given), options.config, start=True)
        except ConfigError as error:
            raise config_file.refused(error, f"{options.config} with these flags is wrong") from error
    from router.workers.run import run

    code = run(config, log_format=options.log_format)
    if code:
        raise CliError("the router did not start", hint="Its log, above, says why.")
    return Exit.OK


def _overridden(path: str, given: dict[str, str]) -> str:
    """The file's text with these keys of [router] instead of its own."""
    from pathlib import Path

    import tomlkit

    document = tomlkit.parse(Path(path).read_text(encoding="utf-8-sig"))
    document.setdefault("router", tomlkit.table()).update(given)
    return tomlkit.dumps(document)
