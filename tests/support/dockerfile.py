"""What the Dockerfile makes of the last stage: its command, user, ports and environment."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


@dataclass(frozen=True)
class Image:
    entrypoint: list[str]
    command: list[str]
    user: str
    ports: list[int]
    folder: str
    env: dict[str, str]


def image() -> Image:
    lines = re.sub(r"\\\n", " ", DOCKERFILE.read_text()).splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    said = {
        word: rest for word, _, rest in (line.partition(" ") for line in lines[last:] if re.match(r"[A-Z]+ ", line))
    }
    env = dict(pair.split("=", 1) for pair in said["ENV"].split())
    return Image(
        entrypoint=json.loads(said["ENTRYPOINT"]),
        command=json.loads(said["CMD"]),
        user=said["USER"],
        ports=[int(port) for port in said["EXPOSE"].split()],
        folder=said["WORKDIR"],
        env={name: value for name, value in env.items() if name != "PATH"},
    )
