"""What can go wrong in a command: one class, what happened, what to do next, and the exit code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes. Scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2  # a wrong flag, value or name, or a wrong regions.toml
    UNREACHABLE = 3  # no router answers
    UNHEALTHY = 4  # it answers, and is not ready or not healthy


#: exit code -> what it means
MEANINGS: dict[int, str] = {
    Exit.OK: "done",
    Exit.FAILED: "failed",
    Exit.USAGE: "a flag, value, name, file, token or key that is not accepted",
    Exit.UNREACHABLE: "no router answers",
    Exit.UNHEALTHY: "it answers, and is not ready or not healthy",
    130: "ended with Ctrl-C",
    143: "ended by SIGTERM; `bench` prints its figures first, as with Ctrl-C",
}


class CliError(Exception):
    """Ends the command. ``message`` says what happened, ``details`` more of it line by line, ``hint`` what to do;
    ``request_id``: of the request that failed, if the router has a record of it."""

    request_id: str | None = None

    def __init__(
        self, message: str, *, code: Exit = Exit.FAILED, hint: str | None = None, details: Sequence[str] = ()
    ) -> None:
        self.message = message
        self.code = code
        self.hint = hint
        self.details = tuple(details)
        super().__init__(message)


class SilentError(CliError):
    """A router took the connection and did not answer: it is there, and hangs."""


def nobody_runs(error: CliError) -> bool:
    """No router is there, so that nothing that one would say is missed."""
    return error.code is Exit.UNREACHABLE and not isinstance(error, SilentError)


#: names of the admin API -> the flags that people typed
_FLAGS = {
    "of": "--of",
    "since_s": "--since",
    "window_s": "--window",
    "for_s": "--for",
    "in_s": "--in",
    "slower_than_s": "--slower-than",
    "limit": "--limit",
    "past": "--limit",
    "overlap": "--overlap",
    "overlap_s": "--overlap",
}


def in_our_voice(sentence: str) -> str:
    """A sentence of others, to stand behind ``error: ``: it begins small, unless with capitals as in HTTP."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]


_RANGE = re.compile(r"a number from ([\d.e+]*\d) to ([\d.e+]*\d)")


def in_flags(message: str, param: object) -> str:
    """A message of the admin API in the words of the command line: ``since_s`` is what ``--since`` sends."""
    flag = _FLAGS.get(str(param))
    if flag is None or not message.startswith(str(param)):
        return message
    told = flag + message.removeprefix(str(param))
    if not str(param).endswith("_s"):
        return told
    from router.moments import span_text

    return _RANGE.sub(lambda m: f"from {span_text(float(m[1]))} to {span_text(float(m[2]))}", told)


class UnknownNameError(CliError):
    """Nothing has the name that was given."""


def unknown(what: str, name: str, known: Iterable[str], *, hint: str | None = None) -> UnknownNameError:
    """A name that nothing has: which may have been meant, and which there are."""
    from router.core.suggest import did_you_mean, there_are

    names = list(known)
    text = f'there is no {what} "{name[:80]}"{did_you_mean(name, names)}'
    return UnknownNameError(text, code=Exit.USAGE, hint=hint or there_are(names))


class StatusError(CliError):
    """The router answered with an HTTP error. ``error`` is OpenAI's error object, or empty."""

    def __init__(
        self, status: int, error: dict[str, object], *, hint: str | None = None, retry_after_s: float | None = None
    ) -> None:
        self.status = status
        self.error = error
        self.retry_after_s = retry_after_s
        problems = error.get("problems")
        details = [str(p) for p in problems] if isinstance(problems, list) else []
        text = in_flags(str(error.get("message") or f"HTTP {status}"), error.get("param"))
        code = Exit.USAGE if status in (400, 401, 403, 404, 422) else Exit.FAILED  # what was asked for is wrong
        super().__init__(in_our_voice(text), code=code, hint=hint, details=details)
