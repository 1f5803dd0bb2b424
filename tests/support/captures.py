"""Reads the captured answers of real engines with a decoder of its own, so that it can judge ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent / "data" / "captures"


@dataclass(frozen=True)
class Capture:
    name: str
    raw: bytes
    status: int
    headers: dict[bytes, bytes]
    body: bytes
    framed: bool  # its framing says that it is whole


def load(path: Path) -> Capture:
    raw = path.read_bytes()
    while True:
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        if status != 100:
            break
        raw = rest
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(b":") for line in lines[1:])}
    if headers.get(b"transfer-encoding") == b"chunked":
        body, framed = _dechunk(rest)
    elif b"content-length" in headers:
        body, framed = rest, len(rest) == int(headers[b"content-length"])
    else:
        body, framed = rest, False
    return Capture(f"{path.parent.name}/{path.name.removesuffix('.response.http')}", raw, status, headers, body, framed)


def _dechunk(data: bytes) -> tuple[bytes, bool]:
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        n = int(size.split(b";")[0], 16) if size else -1
        if n == 0:
            return out, True
        if n < 0:
            break
        out += data[:n]
        data = data[n + 2 :]
    return out, False


def streams() -> list[Capture]:
    """Every captured event stream."""
    every = (load(path) for path in sorted(ROOT.glob("*/*.response.http")) if path.stat().st_size)
    return [
        c for c in every if c.status == 200 and c.headers.get(b"content-type", b"").startswith(b"text/event-stream")
    ]


def whole_answers() -> list[Capture]:
    every = (load(path) for path in sorted(ROOT.glob("*/*.response.http")) if path.stat().st_size)
    return [c for c in every if not c.headers.get(b"content-type", b"").startswith(b"text/event-stream")]
