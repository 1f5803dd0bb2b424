"""Certificates made on the spot."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificate:
    """Self-signed, so that it is its own authority."""

    cert: Path
    key: Path


def certificate(folder: Path, name: str, *, host: str = "localhost", days: int = 2) -> Certificate:
    if shutil.which("openssl") is None and "CI" not in os.environ:
        pytest.skip("openssl is not installed")
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    names = f"subjectAltName=DNS:{host},IP:127.0.0.1" if host == "localhost" else f"subjectAltName=DNS:{host}"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", str(days), "-subj", f"/CN={name}", "-addext", names]
    # Checked strictly since Python 3.13: an authority must say what its key is for.
    command += [
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,digitalSignature",
    ]
    subprocess.run([*command, "-keyout", made.key, "-out", made.cert], check=True, capture_output=True, timeout=30)
    return made
