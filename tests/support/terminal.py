"""A program in a real pseudo terminal, and the screen that its bytes make: ``with Terminal(command) as t: t.until("x")``."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

_PATIENCE_S = 60.0
#: A control sequence, an operating system command, or another escape; and one that is not whole yet.
_ESCAPE = re.compile(
    r"\x1b\[([<>=?]?)([\d;:]*)([ -/]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1bP.*?\x1b\\|\x1b[()*+].|\x1b[^\[\]P]",
    re.DOTALL,
)
_PARTIAL = re.compile(r"\x1b(?:\[[<>=?]?[\d;:]*[ -/]*|\][^\x07]*|P.*)?$", re.DOTALL)


class Screen:
    """Letters where the bytes put them; colours are not kept. Wide letters are not known."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.cells: dict[tuple[int, int], str] = {}
        self.row = self.column = 0
        self.clears = 0
        self._rest = ""

    @property
    def lines(self) -> list[str]:
        rows = range(self.height)
        return ["".join(self.cells.get((row, c), " ") for c in range(self.width)).rstrip() for row in rows]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def feed(self, data: str) -> None:
        data, at = self._rest + data, 0
        whole = _PARTIAL.search(data)
        self._rest = "" if whole is None else whole.group()
        data = data[: len(data) - len(self._rest)]
        for match in _ESCAPE.finditer(data):
            self._letters(data[at : match.start()])
            at = match.end()
            if match[4] and not match[1]:
                self._control(match[4], [int(n) for n in re.findall(r"\d+", match[2])])
        self._letters(data[at:])

    def _letters(self, text: str) -> None:
        for letter in text:
            if letter == "\n":
                self.row += 1
            elif letter == "\r":
                self.column = 0
            elif letter == "\b":
                self.column -= 1
            elif letter >= " ":
                self.cells[self.row, self.column] = letter
                self.column += 1

    def _control(self, kind: str, numbers: list[int]) -> None:
        first = numbers[0] if numbers else 1
        if kind in "Hf":
            self.row, self.column = first - 1, (numbers[1] if len(numbers) > 1 else 1) - 1
        elif kind in "ABCD":
            down, right = {"A": (-1, 0), "B": (1, 0), "C": (0, 1), "D": (0, -1)}[kind]
            self.row, self.column = self.row + down * first, self.column + right * first
        elif kind == "G":
            self.column = first - 1
        elif kind == "J":
            self.clears += 1
            self.cells.clear()
        elif kind == "K":
            for column in range(self.column, self.width):
                self.cells.pop((self.row, column), None)


class Terminal:
    """``size``: columns and lines."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], size: tuple[int, int] = (100, 30)) -> None:
        self._command, self._env, self._size = command, env, size

    def __enter__(self) -> Self:
        self.ours, self.theirs = pty.openpty()
        self.before = termios.tcgetattr(self.theirs)
        self._announce(self._size)
        self.seen = b""
        self._letters = codecs.getincrementaldecoder("utf-8")("replace")
        self.screen = Screen(*self._size)
        self.process = subprocess.Popen(
            self._command, stdin=self.theirs, stdout=self.theirs, stderr=self.theirs, env=dict(self._env)
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        os.close(self.ours)
        os.close(self.theirs)

    def _announce(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def resize(self, width: int, height: int) -> None:
        self.read()
        self.screen = Screen(width, height)
        self._announce((width, height))
        self.process.send_signal(signal.SIGWINCH)

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def read(self, wait_s: float = 0.0) -> bool:
        """Take what was written; whether there was anything."""
        if not select.select([self.ours], [], [], wait_s)[0]:
            return False
        data = os.read(self.ours, 65536)
        self.seen += data
        self.screen.feed(self._letters.decode(data))
        return True

    def until(self, there: str | Callable[[Screen], bool]) -> str:
        """The screen, once it has this text or is like this."""
        end_s = time.monotonic() + _PATIENCE_S
        while not (there in self.screen.text if isinstance(there, str) else there(self.screen)):
            assert time.monotonic() < end_s, f"{there} is not on the screen:\n{self.screen.text}"
            assert self.process.poll() is None, f"it has ended:\n{self.screen.text}"
            self.read(0.1)
        return self.screen.text

    def end(self) -> int:
        """Its exit code, once it has ended."""
        end_s = time.monotonic() + _PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < end_s, f"it does not end:\n{self.screen.text}"
            self.read(0.1)
        while self.read():
            pass
        return self.process.wait()
