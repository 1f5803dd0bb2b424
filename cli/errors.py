"""What can go wrong in a command: one class, what happened, what to do next, and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes. Scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2  # a wrong flag or value, or a wrong regions.toml
    UNREACHABLE = 3  # no router answers
    UNHEALTHY = 4  # it answers, and is not ready or not healthy


class CliError(Exception):
    """Ends the command. ``message`` says what happened, ``details`` more of it line by line, ``hint`` what to do."""

    def __init__(
        self, message: str, *, code: Exit = Exit.FAILED, hint: str | None = None, details: Sequence[str] = ()
    ) -> None:
        self.message = message
        self.code = code
        self.hint = hint
        self.details = tuple(details)
        super().__init__(message)


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
        text = str(error.get("message") or f"HTTP {status}")
        code = Exit.USAGE if status in (400, 401, 403, 422) else Exit.FAILED  # what was asked for is wrong
        super().__init__(text, code=code, hint=hint, details=details)
