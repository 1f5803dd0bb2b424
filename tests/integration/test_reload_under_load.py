"""A running router reads files, bad ones and good ones, while clients ask: none of them notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import orjson

from tests.integration.conftest import OPEN
from tests.support.backends import ScriptedBackend
from tests.support.effort import quick
from tests.support.router import RouterProcess, Site, configuration
from tests.support.takeover import Load
from tests.unit.test_config_checks import CASES, ENV, Bad


def _directory(file: Path) -> None:
    file.mkdir()


def _pipe(file: Path) -> None:
    os.mkfifo(file)


def _nothing(file: Path) -> None:
    """It was removed."""


def _dangling(file: Path) -> None:
    file.symlink_to(file.parent / "gone")


def _endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def _loop(file: Path) -> None:
    file.symlink_to(file.name)


def _of(data: bytes) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_bytes(data)

    return write


#: in place of the file -> what the message says; it begins with the file's name, and has the line where there is one
STRANGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "removed": (_nothing, ": cannot be read: No such file"),
    "a directory": (_directory, ": is not a file"),
    "a pipe": (_pipe, ": is not a file"),
    "a device": (_endless, ": is not a file"),
    "a dangling link": (_dangling, ": cannot be read: No such file"),
    "a link to itself": (_loop, ": cannot be read: Too many levels"),
    "empty": (_of(b""), ": is empty"),
    "blank": (_of(b"\n\n \n"), ": is empty"),
    "binary": (_of(bytes(range(256)) * 16), ":2: is not UTF-8"),
    "zeros": (_of(b"\0" * 4096), ":1: syntax: "),
    "UTF-16": (_of('[router]\nname = "x"\n'.encode("utf-16")), ":1: is not UTF-8"),
    "Latin-1": (_of('[router]\nname = "zürich"\n'.encode("latin-1")), ":2: is not UTF-8"),
    "cut in a character": (_of('[router]\n\nname = "zü'.encode()[:-1]), ":3: is not UTF-8"),
    "huge": (_of(b"# nothing\n" * 500_000), ": is over 4 MiB"),
    "JSON": (_of(b'{"router": {}}'), ":1: syntax: "),
    "YAML": (_of(b"router:\n  name: x\n"), ":1: syntax: "),
    "an error page": (_of(b"<!DOCTYPE html>\n<html>"), ":1: syntax: "),
    "a merge gone wrong": (_of(b'[router]\nname = "a"\n<<<<<<< ours\n'), ":3: syntax: "),
}


async def _refused(r: RouterProcess, after_s: float, begin: str, message: str, place: str) -> tuple[float, str]:
    """The time of the next refusal, and its problem that begins so and holds the others. The watch of the file may see
    the one before meanwhile."""
    problems: list[str] = []
    try:
        async with asyncio.timeout(20):
            while True:
                config = await asyncio.to_thread(r.ask_admin, "/admin/v1/config")
                assert config["generation"] == 1, "it was taken"
                refused = config["refused"] or {"problems": [], "at_s": 0.0}
                problems = refused["problems"]
                for problem in problems:
                    fits = problem.startswith(begin) and message in problem and place in problem
                    if fits and refused["at_s"] > after_s:
                        return refused["at_s"], problem
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"no problem like {(begin, message, place)}: {problems}") from None


def _clear(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    else:
        file.unlink(missing_ok=True)


async def test_bad_files_are_refused_with_line_and_key_and_the_old_one_stays() -> None:
    cases: list[Bad | str] = [*(CASES[::3] if quick() else CASES), *STRANGE]
    assert len(cases) >= 50
    async with ScriptedBackend() as b:
        site = Site("near", "a", b.url, models=["m"])
        async with RouterProcess([site], head=OPEN, env=ENV, errors_allowed=True) as r:
            good, at_s, told = r.file.read_text(), 0.0, list[str]()
            async with Load(r.listen, kept=3, fresh=2, streams=2) as load:
                for case in cases:
                    _clear(r.file)
                    if isinstance(case, Bad):
                        r.file.write_text(case.text)
                        line = f":{case.line}: " if case.line else ""
                        wanted = (f"{r.file}{line}", case.message, case.place)
                    else:
                        make, message = STRANGE[case]
                        make(r.file)
                        wanted = (f"{r.file}{message}", "", "")
                    r.process.send_signal(signal.SIGHUP)
                    at_s, problem = await _refused(r, at_s, *wanted)
                    told.append(problem)
                _clear(r.file)
                r.file.write_text(good.replace(OPEN, f"{OPEN}[timeouts]\nconnect = 2\n"))
                async with asyncio.timeout(30):
                    while b"generation 2 in force" not in r.log.read_bytes():  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
            said = [orjson.loads(line).get("message", "") for line in r.log.read_text().splitlines()]
    shown = [problem for problem in told if any(message.endswith(problem) for message in said)]
    assert shown[:10] == told[:10], "of many in a few seconds the log shows the first ones"
    assert load.failed == []
    assert load.answered > 50
    assert load.streamed > 5


async def test_good_files_are_put_in_force_one_after_the_other() -> None:
    def text(n: int, urls: list[str], r: RouterProcess) -> str:
        """Regions come and go, weights, limits, plans and policies change."""
        sites = [Site("near", "a", urls[0], models=["m"])]
        if n % 2:
            sites.append(Site("far", "a", urls[1], models=["m", "n"], extra=f"max_inflight = {10 + n}"))
        alias = f'[models.alias]\ntargets = [{{model = "m", weight = {1 + n % 5}}}, {{model = "m2", weight = 1}}]\n'
        head = f'policy = "{("ttft", "p2c", "nearest")[n % 3]}"\n{OPEN}{alias}[limits]\nqueue = {100 + n}\n'
        return configuration(sites, head=head, listen=r.listen, admin=r.admin_address)

    async with ScriptedBackend() as one, ScriptedBackend() as two:
        async with RouterProcess([Site("near", "a", one.url, models=["m"])], head=OPEN) as r:
            async with Load(r.listen, kept=3, fresh=2, streams=2) as load:
                for n in range(30 if quick() else 100):
                    temporary = r.file.with_suffix(".new")
                    temporary.write_text(text(n, [one.url, two.url], r))
                    temporary.replace(r.file)
                    r.process.send_signal(signal.SIGHUP)
                    async with asyncio.timeout(30):
                        while True:
                            config = await asyncio.to_thread(r.ask_admin, "/admin/v1/config")
                            if config["config"]["limits"]["queue"] == 100 + n:
                                break
                            await asyncio.sleep(0.005)
                    assert config["generation"] == n + 2
                    assert config["refused"] is None
    assert load.failed == []
    assert load.answered > 50
    assert two.calls, "the other region took its part"
