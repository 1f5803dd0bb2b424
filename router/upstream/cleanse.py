"""Removes from a backend's messages what clients must not learn: paths of its disk, its code, its addresses."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

#: Stands for each part that was removed.
HIDDEN = "…"
LENGTH_MAX = 4000
_DEPTH_MAX = 6
_ENTRIES_MAX = 100

#: Lines of tracebacks: the frame, and the line of code that is indented below it.
_FRAMES = re.compile(
    r"^[ \t]*(?:"
    r"Traceback \(most recent call last\):|Stack ?trace:.*|goroutine \d+ \[.*|"
    r"File \"[^\"\n]*\", line \d+.*(?:\n[ \t]+(?!File ).*)*|"
    r"at .{0,200}\(?[\w./\\:-]+:\d+(?::\d+)?\)?|"
    r"#?\d+ 0x[0-9a-f]+ .*|"
    r"[\w/.-]+\.(?:go|rs|cpp|cc|cu|py|js|ts):\d+.*"
    r")[ \t]*(?:\n|$)",
    re.MULTILINE,
)
_MEMORY = re.compile(r" at 0x[0-9a-fA-F]{6,}|\b0x[0-9a-fA-F]{8,}\b")
_INTERNAL_HOST = (
    r"(?:localhost|ip-\d+-\d+-\d+-\d+[\w.-]{0,100}|(?:[\w-]{1,63}\.){1,8}"
    r"(?:local|localdomain|internal|intranet|lan|corp|home|svc|private|cluster))"
)
_HOST = re.compile(rf"(?<![\w.-]){_INTERNAL_HOST}(?::\d{{1,5}})?(?![\w-])", re.IGNORECASE)
_URL = re.compile(
    r"\b(?:file|unix|ipc|inproc)://[^\s'\"<>)\]]*"
    r"|\b[a-z][a-z0-9+.-]{1,15}://(?:[^\s'\"<>)\]/@]*@)?(\[[0-9a-fA-F:.]+\]|[^\s'\"<>)\]/:]+)(?::\d+)?[^\s'\"<>)\]]*",
    re.IGNORECASE,
)
#: Text that may be an address, with brackets, zone and port.
_IP = re.compile(r"(?<![\w.:])(\[?)([0-9a-fA-F:.]{3,64})(?![\w])(?:%\w{1,16})?(\]?)(?::\d{1,5}\b)?")
#: A path has at least two parts and begins at the root: a slash behind a word, a colon or a dot begins none.
_PATH = re.compile(r"(?<![\w:/.\\~>-])~?/(?:[\w.@+~=-]+/)+[\w.@+~=-]*(?::\d+)*")
_WINDOWS_PATH = re.compile(r"(?<!\w)[A-Za-z]:\\[^\s'\"<>|]+|(?<!\w)\\\\[\w.$-]+\\[^\s'\"<>|]+")
#: Paths that belong to the API, and pointers into the request.
_API = re.compile(
    r"/(?:v\d+\w*|api|openai|anthropic)(?:/|$)|/(?:body|messages|tools|input|inputs|prompt|\d+)/|(?:/[^/]*)*/\d+(?:/|$)"
)
_PUBLIC_NAME = re.compile(r"(?=.*[a-zA-Z])[\w-]+(?:\.[\w-]+)+", re.ASCII)


def clean_text(text: str) -> str:
    """``text`` without tracebacks, paths of a disk, addresses and places in memory."""
    text = text[: 2 * LENGTH_MAX].replace("\r\n", "\n")
    text = _FRAMES.sub("", text)
    text = _URL.sub(_url, text)
    text = _WINDOWS_PATH.sub(HIDDEN, text)
    text = _PATH.sub(lambda match: match[0] if _API.match(match[0]) else HIDDEN, text)
    text = _HOST.sub(HIDDEN, text)
    text = _IP.sub(_ip, text)
    text = _MEMORY.sub("", text).strip()
    return text if len(text) <= LENGTH_MAX else text[: LENGTH_MAX - 1] + HIDDEN


def _url(match: re.Match[str]) -> str:
    """Keep addresses of documentation pages, remove those of internal hosts."""
    host = match[1]
    if host is None or "@" in match[0] or _HOST.fullmatch(host) or not _PUBLIC_NAME.fullmatch(host):
        return HIDDEN
    return HIDDEN if _is_ip(host) else match[0]


def _ip(match: re.Match[str]) -> str:
    """Remove an address, but keep the punctuation behind it."""
    found = match[2]
    for end in range(len(found), len(found.rstrip(":.")) - 1, -1):
        host, _, port = found[:end].rpartition(":")
        if _is_ip(found[:end]) or (port.isdigit() and _is_ip(host)):
            return HIDDEN + found[end:] + ("" if match[1] else match[3])
    return match[0]


def _is_ip(text: str) -> bool:
    """The text is an address. ``1:2:3`` and ``::`` look like one but tell nothing."""
    try:
        return ip_address(text).packed.strip(b"\0") != b""
    except ValueError:
        return False


def clean(value: Any, depth: int = 0) -> Any:
    """The same for every text in a JSON value. Values nested too deep are left out."""
    if isinstance(value, str):
        return clean_text(value)
    if depth >= _DEPTH_MAX:
        return None
    if isinstance(value, dict):
        return {str(name)[:100]: clean(entry, depth + 1) for name, entry in list(value.items())[:_ENTRIES_MAX]}
    if isinstance(value, list):
        return [clean(entry, depth + 1) for entry in value[:_ENTRIES_MAX]]
    return value
