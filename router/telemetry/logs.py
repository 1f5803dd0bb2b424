"""Log lines: JSON for machines, text for a terminal. Nothing in a line can forge another line or move a cursor."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable, Hashable
from typing import Any

import orjson

from router.telemetry.journal import Record
from router.telemetry.kinds import RequestKind
from router.telemetry.text import clean
from router.telemetry.writer import LineWriter

_TEXT_MAX = 200
_MESSAGE_MAX = 4000
_REPEATS = 3
_REPEATS_ALIKE = 20
_REPEAT_WINDOW_S = 10.0
_REPEAT_WINDOW_MAX_S = 600.0
#: A repetition that was quiet for longer than this counts as new.
_REPEAT_PAUSE_S = 600.0
_REPEAT_KEYS_MAX = 1000
#: Texts that look like secrets, should one ever reach a message.
_SECRETS = re.compile(r"(?i)(bearer\s+)[^\s\"',]+|\b(sk-)[A-Za-z0-9_-]{6,}|(://[^\s:/@]*:)[^\s/@]+(?=@)")


def redact(text: str) -> str:
    """``text`` with what looks like a key or a password replaced."""
    return _SECRETS.sub(lambda m: f"{m.group(1) or m.group(2) or m.group(3)}***", text)


def access_json(record: Record, kind: RequestKind, generation: int, router: str) -> bytes:
    """One line for one request. ``generation`` of the configuration, and name of the router, are in each."""
    if not kind.line:
        kind.line = _shared_json(kind, generation, router)
    return (
        b'{"ts":%.3f,"level":"info","id":%b,"ttft_s":%b,"duration_s":%.4f,"prompt_tokens":%d,"output_tokens":%d,'
        b'"cached_tokens":%b,"key_id":%b,%b%b}\n'
    ) % (
        record.arrival_s + record.duration_s,
        orjson.dumps(clean(record.request_id)),
        b"null" if record.ttft_s is None else b"%.4f" % record.ttft_s,
        record.duration_s,
        record.prompt_tokens,
        record.output_tokens,
        b"null" if record.cached_tokens is None else b"%d" % record.cached_tokens,
        b"null" if record.key_id is None else orjson.dumps(clean(record.key_id, 64)),
        kind.line,
        _seldom_json(record)
        if record.wait_s or record.cost_usd or record.trace_id or record.limit is not None
        else b"",
    )


def _shared_json(kind: RequestKind, generation: int, router: str) -> bytes:
    """The part of a line that all requests of one kind have in common."""
    document: dict[str, Any] = {
        "event": "request",
        "status": kind.status,
        "cause": clean(kind.cause),
        "method": clean(kind.method, 16),
        "path": clean(kind.path),
        "model": clean(kind.model) if kind.model is not None else None,
        "region": clean(kind.region) or None,
        "backend": clean(kind.backend) or None,
        "attempts": kind.attempts,
        "tenant": clean(kind.tenant),
        "stream": kind.stream,
        "router": router,
        "config_generation": generation,
    }
    if kind.error is not None:
        document["error"] = clean(kind.error)
    if kind.served_model is not None and kind.served_model != kind.model:
        document["served_model"] = clean(kind.served_model)
    return orjson.dumps(document)[1:-1]


def _seldom_json(record: Record) -> bytes:
    """The fields that most lines do not have, and that are not shared."""
    document: dict[str, Any] = {}
    if record.wait_s > 0:
        document["wait_s"] = round(record.wait_s, 4)
    if record.cost_usd:
        document["cost_usd"] = round(record.cost_usd, 6)
    if record.limit is not None:
        named = {"limit": record.limit, "limit_scope": record.limit_scope, "plan": record.plan}
        document |= {name: clean(text, 48) for name, text in named.items() if text is not None}
    if record.trace_id is not None:
        document["trace_id"] = clean(record.trace_id, 64)
    return b"," + orjson.dumps(document)[1:-1] if document else b""


def access_text(record: Record, kind: RequestKind, generation: int, router: str) -> bytes:
    """The same for a terminal."""
    del kind, generation, router
    at = time.strftime("%H:%M:%S", time.localtime(record.arrival_s + record.duration_s))
    ttft = f" ttft {record.ttft_s * 1000:.0f} ms" if record.ttft_s is not None else ""
    tries = f" attempts {len(record.attempts)}" if len(record.attempts) > 1 else ""
    why = f" {clean(record.error or record.cause)}" if record.cause != "ok" else ""
    backend = clean(record.backend or "-")
    cost = f" ${record.cost_usd:.6f}" if record.cost_usd else ""
    return (
        f"{at} {record.status} {clean(record.method, 16)} {clean(record.path)} {clean(record.model or '-')} -> "
        f"{backend}{ttft} total {record.duration_s:.2f} s {record.prompt_tokens}+{record.output_tokens} "
        f"tokens{cost}{tries}{why} {clean(record.request_id)}\n"
    ).encode()


class _Repeats:
    """Limits repetitions: a few pass at once, then one after 10 s, 20 s, 40 s, up to ten minutes, while it goes on."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._seen: dict[Hashable, list[float]] = {}  # since, its length, let through, held back

    def held_back(self, key: Hashable, now_s: float) -> int | None:
        """How many were held back before this one; None: it is held back itself."""
        state = self._seen.get(key)
        if state is None:
            if len(self._seen) >= _REPEAT_KEYS_MAX:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = [now_s, _REPEAT_WINDOW_S, 1, 0]
            return 0
        since_s, window_s, let, held = state
        if now_s - since_s < window_s:
            if let < self._at_once and window_s == _REPEAT_WINDOW_S:
                state[2] += 1
                return 0
            state[3] += 1
            return None
        if held and now_s - since_s < window_s + _REPEAT_PAUSE_S:
            state[:] = [now_s, min(2 * window_s, _REPEAT_WINDOW_MAX_S), 1, 0]
        else:
            state[:] = [now_s, _REPEAT_WINDOW_S, 1, 0]
        return int(held)


class RepeatFilter(logging.Filter):
    """Holds back lines that repeat, and counts them: the count comes with the next of them that is let through.

    Equal lines are limited strictly; lines that differ only in their values are limited too, but more of them pass, so
    that a new message is seen while an old one repeats.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._equal = _Repeats(_REPEATS)
        self._alike = _Repeats(_REPEATS_ALIKE)

    def filter(self, record: logging.LogRecord) -> bool:
        now_s = self._now_s()
        error = record.exc_info[0] if record.exc_info else None
        alike = (record.name, record.levelno, str(record.msg)[:_TEXT_MAX], error)
        equal = self._equal.held_back((*alike, record.getMessage()[:_TEXT_MAX]), now_s)
        if equal is None or (more := self._alike.held_back(alike, now_s)) is None:
            return False
        if held_back := equal + more:
            record.held_back = held_back
        return True


class LineHandler(logging.Handler):
    """Formats log records and hands them to a LineWriter."""

    def __init__(self, writer: LineWriter, *, human: bool) -> None:
        super().__init__()
        self._writer = writer
        self._human = human

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(_log_text(record) if self._human else _log_json(record))
        except Exception:
            self.handleError(record)


def set_up(writer: LineWriter, *, human: bool, level: str = "INFO") -> Callable[[], None]:
    """Send everything that is logged in this process to ``writer``. Returns a function that undoes it."""
    handler = LineHandler(writer, human=human)
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    old_level, old_handlers = root.level, root.handlers[:]
    root.handlers[:] = [handler]
    root.setLevel(level)

    def undo() -> None:
        root.handlers[:] = old_handlers
        root.setLevel(old_level)

    return undo


def _log_json(record: logging.LogRecord) -> bytes:
    document: dict[str, Any] = {
        "ts": round(record.created, 3),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": clean(redact(record.getMessage()), _MESSAGE_MAX),
    }
    if (held_back := getattr(record, "held_back", None)) is not None:
        document["held_back"] = held_back
    if record.exc_info and record.exc_info[1] is not None:
        document["exception"] = redact("".join(traceback.format_exception(record.exc_info[1])))[-_MESSAGE_MAX:]
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _log_text(record: logging.LogRecord) -> bytes:
    at = time.strftime("%H:%M:%S", time.localtime(record.created))
    held_back = getattr(record, "held_back", None)
    more = f" (and {held_back} more like it)" if held_back else ""
    lines = [f"{at} {record.levelname.lower()}: {clean(redact(record.getMessage()), _MESSAGE_MAX)}{more}"]
    if record.exc_info and record.exc_info[1] is not None:
        trace = redact("".join(traceback.format_exception(record.exc_info[1])))[-_MESSAGE_MAX:]
        lines += [f"    {clean(line, _MESSAGE_MAX)}" for line in trace.splitlines()]
    return ("\n".join(lines) + "\n").encode(errors="replace")
