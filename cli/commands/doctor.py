"""router doctor: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from cli import applying, units
from cli.context import AdminToken, AdminUrl, AsJson, Context, OwnConfigPath, context
from cli.errors import Exit
from cli.output import Table, escape

if TYPE_CHECKING:
    from cli.doctor.symptoms import Symptom
    from router.config import Config

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    path: str | None
    as_json: bool


def command(
    ctx: typer.Context,
    config: OwnConfigPath = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Check everything that a router needs: its file, the store, every backend, clocks, descriptors, certificates, and
    the running router if there is one. Each line says what to do. Exit code 1 if something fails. Changes nothing."""
    context(ctx, admin_url, admin_token).run(run_doctor, DoctorOptions(config, as_json))


def run_doctor(ctx: Context, options: DoctorOptions) -> Exit:
    symptoms = examine(_of_file(ctx, options.path), options.path or _path(ctx))
    failed = [s for s in symptoms if s.state == "fail"]
    if options.as_json:
        ctx.out.json({"ok": not failed, "data": [s.document() for s in symptoms]})
        return Exit.FAILED if failed else Exit.OK
    made = Table(("", "area", "what", "how it is"), drop=("area",), wrap=True)
    for symptom in symptoms:
        text = escape(symptom.text) + (f"\n[dim]{escape(symptom.advice)}[/]" if symptom.advice else "")
        state = f"[{_COLOURS[symptom.state]}]{symptom.state}[/]"
        made.add_row(state, symptom.area, f"[bold]{escape(symptom.what)}[/]", text)
    ctx.out.line(made)
    warned = sum(s.state == "warn" for s in symptoms)
    counts = f"{units.plural(len(failed), 'failure')}, {units.plural(warned, 'warning')}"
    ctx.out.note(counts if failed or warned else "All is well.")
    return Exit.FAILED if failed else Exit.OK


def examine(ctx: Context, path: str) -> list[Symptom]:
    """Everything in the order in which a router needs it."""
    from cli.doctor import of_backends, of_certificates, of_file, of_machine, of_router, of_store

    config, symptoms = of_file.read(path, ctx.env)
    checks: list[Callable[[Config], list[Symptom]]] = [
        of_store.look,
        lambda c: of_backends.look(c, ctx.env),
        of_machine.look,
        of_certificates.look,
    ]
    if config is not None:
        for check in checks:
            symptoms += check(config)
    return [*symptoms, *of_router.look(ctx, path)]


def _of_file(ctx: Context, path: str | None) -> Context:
    """A file that is named has an admin address: that router is asked, unless a flag or the environment names one."""
    if path is None or ctx.chosen.why not in ("default", "current context"):
        return ctx
    from cli.doctor import of_file

    config, _ = of_file.read(path, ctx.env)
    if config is None:
        return ctx
    return ctx.asking(of_file.admin_url(config), ctx.env.get("ROUTER_ADMIN_TOKEN"))


def _path(ctx: Context) -> str:
    """The running router's file if it is on this machine. A router that refuses to tell is a symptom, too."""
    from cli.errors import CliError

    try:
        return applying.default_path(ctx)
    except CliError:
        return "regions.toml"
