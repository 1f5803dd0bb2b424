"""Installing programs into environments of their own under bench/.cache: nothing of the machine is changed.

Every function is idempotent: what is there in the wanted version is used again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
OUT = HERE / "out"
INSTALL_S = 900
UV = ("uv==0.13.8",)


class NotInstallable(Exception):  # noqa: N818 - a state of this machine, not a fault
    """This machine lacks what the installation needs; the text says what."""


def run(command: Sequence[str | Path], *, cwd: Path | None = None) -> str:
    """Standard output of a command. Raises NotInstallable with the end of its error output."""
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except OSError as error:
        raise NotInstallable(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise NotInstallable(f"{' '.join(map(str, command))}: {done.stderr.strip()[-600:]}")
    return done.stdout


def _once(folder: Path, pins: Sequence[str]) -> bool:
    """True if `folder` holds exactly these pins; otherwise it is emptied."""
    mark = folder / ".pins"
    if mark.exists() and mark.read_text() == "\n".join(pins):
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return False


def _done(folder: Path, pins: Sequence[str]) -> Path:
    (folder / ".pins").write_text("\n".join(pins))
    return folder


def python(name: str, pins: Sequence[str], overrides: Sequence[str] = ()) -> Path:
    """A virtual environment with these requirements. Returns its bin folder.

    `overrides` replace what the requirements ask of others; only uv can do that, pip serves the rest.
    """
    folder = CACHE / name
    wanted = [*pins, *overrides]
    if not _once(folder, wanted):
        run([sys.executable, "-m", "venv", folder])
        interpreter = folder / "bin" / "python"
        if overrides:
            replaced = folder / "overrides.txt"
            replaced.write_text("\n".join(overrides))
            uv = python("uv", UV) / "uv"
            run([uv, "pip", "install", "--quiet", "--python", interpreter, "--override", replaced, *pins])
        else:
            run([interpreter, "-m", "pip", "install", "--quiet", *pins])
        _done(folder, wanted)
    return folder / "bin"


def node(name: str, package: str, version: str, overrides: Mapping[str, str]) -> Path:
    """A folder with an npm package, what it depends on overridden where need be. Returns node_modules."""
    folder = CACHE / name
    wanted = json.dumps({"dependencies": {package: version}, "overrides": dict(overrides)})
    if not _once(folder, [wanted]):
        (folder / "package.json").write_text(wanted)
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"], cwd=folder)
        _done(folder, [wanted])
    return folder / "node_modules"


def debian(package: str, program: str) -> tuple[Path, dict[str, str]]:
    """A program of a Debian package, unpacked beside the system with the libraries it lacks; else the one on the PATH.

    Returns the program and the environment it needs. The version is the distribution's: it pins, not we.
    """
    folder = CACHE / package
    inside = folder / "usr" / "sbin" / program
    libraries = {"LD_LIBRARY_PATH": str(folder / "usr" / "lib" / f"{platform.machine()}-linux-gnu")}
    if inside.exists():
        return inside, libraries
    on_path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if on_path is not None:
        return Path(on_path), {}
    folder.mkdir(parents=True, exist_ok=True)
    wanted = run(["apt-get", "install", "--simulate", "--no-install-recommends", "--quiet", package])
    names = [line.split()[1] for line in wanted.splitlines() if line.startswith("Inst ")]
    run(["apt-get", "download", "--quiet", *names], cwd=folder)
    for archive in sorted(folder.glob("*.deb")):
        run(["dpkg-deb", "--extract", archive, folder])
        archive.unlink()
    return inside, libraries


def compiled(source: Path, libraries: Sequence[str] = ()) -> Path:
    """The program of one C file, compiled when it or a header beside it has changed."""
    parts = [source, *sorted(HERE.glob("*/*.h"))]
    digest = hashlib.sha256(b"\0".join(part.read_bytes() for part in parts)).hexdigest()[:12]
    program = CACHE / "native" / f"{source.stem}-{digest}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(".new")
        flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]
        run([os.environ.get("CC", "cc"), *flags, "-o", fresh, source, *libraries])
        fresh.rename(program)
    return program
