"""The terminal: one place that knows whether there is one, how wide it is and whether it has colours.

Results go to stdout, errors and remarks to stderr. Without a terminal tables are not cut to a
width and carry neither colour nor trailing blanks, so that they can be piped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import IO, TYPE_CHECKING, Literal

from cli.errors import CliError
from cli.iso_times import with_iso_times

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table as Grid

#: state -> colour; one meaning per colour, in every command
STATE_STYLE = {
    "ok": "green",
    "healthy": "green",
    "up": "green",
    "degraded": "yellow",
    "suspect": "yellow",
    "probation": "cyan",
    "draining": "cyan",
    "asleep": "cyan",
    "leaving": "cyan",
    "left": "red",
    "down": "red",
    "ejected": "red",
}

#: Wide enough that no table is ever cut when the output is a file or a pipe.
_PIPE_WIDTH = 1000

#: Blank columns between two columns of a table.
_GAP = 2


class Output:
    def __init__(
        self, stdout: IO[str] | None = None, stderr: IO[str] | None = None, *, env: Mapping[str, str] | None = None
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._env = os.environ if env is None else env
        #: no remarks and no word about what was done; results, warnings and errors remain
        self.quiet = False

    @property
    def stdout(self) -> IO[str]:
        return self._stdout or sys.stdout

    @property
    def stderr(self) -> IO[str]:
        return self._stderr or sys.stderr

    @cached_property
    def console(self) -> Console:
        return self._console(self.stdout)

    @cached_property
    def err(self) -> Console:
        return self._console(self.stderr)

    def _console(self, stream: IO[str]) -> Console:
        from rich.console import Console

        console = Console(file=stream, highlight=False, soft_wrap=False, _environ=self._env)
        if not console.is_terminal and not self._env.get("COLUMNS"):
            console = Console(file=stream, highlight=False, width=_PIPE_WIDTH, _environ=self._env)
        return console

    @property
    def is_tty(self) -> bool:
        return self.console.is_terminal

    @property
    def width(self) -> int:
        return self.console.width

    @property
    def height(self) -> int:
        return self.console.height

    def json(self, value: object) -> None:
        """One JSON document, readable, ending in a newline. Moments have ISO times beside them."""
        self.stdout.write(json.dumps(with_iso_times(value), indent=2, ensure_ascii=False) + "\n")
        self.stdout.flush()

    def json_line(self, value: object) -> None:
        """One JSON document on one line, for streams of them."""
        self.stdout.write(json.dumps(with_iso_times(value), ensure_ascii=False) + "\n")
        self.stdout.flush()

    def line(self, *parts: RenderableType) -> None:
        """Print the parts, separated by a blank, in rich's markup."""
        self._print(self.console, *parts)

    def plain(self, text: str) -> None:
        """Print the text as it is: no markup, no wrapping."""
        self.stdout.write(text if text.endswith("\n") else text + "\n")
        self.stdout.flush()

    def write(self, text: str) -> None:
        """Append the text to the current line: for answers that arrive token by token."""
        self.stdout.write(text)
        self.stdout.flush()

    def flow(self, bar: str = "", room: int | None = None) -> Callable[[str], None]:
        """A function that prints a text piece by piece, wrapped at ``room`` columns, ``bar`` before each line."""
        column: int | None = None  # None: the line has no bar yet

        def write(piece: str) -> None:
            nonlocal column
            for index, part in enumerate(piece.split("\n")):
                if index or (room is not None and column and column + len(part) > room):
                    self.write("\n")
                    column = None
                if not part:
                    continue
                if column is None:
                    self.inline(bar)
                    column = 0
                    part = part.lstrip() if room is not None else part
                self.write(part)
                column += len(part)

        return write

    def inline(self, markup: str) -> None:
        """The same in rich's markup."""
        self.console.print(markup, end="", soft_wrap=True)

    # Of these four the text is as it is: what people named may look like markup, as [plans.default] does.

    def note(self, text: str) -> None:
        """A remark for the person at the terminal, on stderr."""
        if self.quiet:
            return
        self._print(self.err, f"[dim]{escape(text)}[/dim]")

    def warn(self, text: str) -> None:
        self._print(self.err, f"[yellow]![/yellow] {escape(text)}")

    def done(self, text: str, *, beside: bool = False) -> None:
        """What a command has changed. ``beside``: it prints a result, too, which alone stands on stdout."""
        if self.quiet:
            return
        self._print(self.err if beside else self.console, f"[green]✓[/green] {escape(text)}")

    def prompt(self, question: str) -> None:
        """A question on stderr; the answer is typed behind it."""
        self.stderr.write(question)
        self.stderr.flush()

    def progress(self, text: str) -> None:
        """How far it is, on a terminal: one line that the next one replaces."""
        if self.err.is_terminal:
            self.stderr.write(f"\r\x1b[K{text}\r")
            self.stderr.flush()

    def error(self, error: CliError) -> None:
        """The one way in which errors are told: what happened, more of it, what to do."""
        if not self.stderr.isatty() and not self._env.get("COLUMNS"):
            lines = [f"error: {error.message}", *(f"  · {detail}" for detail in error.details), error.hint or ""]
            self.stderr.write("".join(f"{line}\n" for line in lines if line))
            return
        self._print(self.err, f"[red]error:[/red] {escape(error.message)}")
        for detail in error.details:
            self._print(self.err, f"  [dim]·[/dim] {escape(detail)}")
        if error.hint:
            self._print(self.err, escape(error.hint))

    def _print(self, console: Console, *parts: RenderableType) -> None:
        if console.is_terminal:
            console.print(*parts)
            return
        with console.capture() as captured:
            console.print(*parts)
        console.file.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))
        console.file.flush()


class Table:
    """The one look of our tables: no lines, dim headings, numbers to the right.

    In a terminal that is too narrow the columns named in ``drop`` go, in that order, and then texts are wrapped. What
    still does not fit is shown as one line for each value. Nothing is ever cut: half a number is a wrong number.
    Columns in ``empty`` are left out if no row has anything there.
    ``wrap``: texts are wrapped before a column goes. ``pictures`` are columns that are never wrapped.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        right: Collection[str] = (),
        drop: Sequence[str] = (),
        empty: Collection[str] = (),
        pictures: Collection[str] = (),
        wrap: bool = False,
    ) -> None:
        self._empty = frozenset(empty)
        self._columns = tuple(columns)
        self._right = frozenset(right)
        self._drop = tuple(drop)
        self._wrap = wrap
        self._stiff = self._right | frozenset(pictures)
        self._rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: str) -> None:
        """One cell for each column, in rich's markup."""
        assert len(cells) == len(self._columns), cells
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table as RichTable

        room = options.max_width
        texts = [self._texts(i) for i in range(len(self._columns))]
        widths = {
            i: max(map(_cells, column))
            for i, column in enumerate(texts)
            if self._columns[i] not in self._empty or any(column[1:])
        }
        for name in self._drop:
            if _whole(widths.values()) <= room or (self._wrap and self._squeeze(widths, texts, room)):
                break
            if name in self._columns:
                widths.pop(self._columns.index(name), None)
        if not self._squeeze(widths, texts, room):
            yield from self._blocks(widths, texts, room)
            return
        made = RichTable(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
        for i, width in widths.items():
            name = self._columns[i]
            justify: Literal["left", "right"] = "right" if name in self._right else "left"
            made.add_column(name.strip(), justify=justify, width=width, overflow="fold", no_wrap=name in self._stiff)
        for row in self._rows:
            made.add_row(*(row[i] for i in widths))
        yield made

    def _texts(self, column: int) -> list[str]:
        """A column as it is seen, its heading first."""
        from rich.text import Text

        return [self._columns[column].strip(), *(Text.from_markup(row[column]).plain for row in self._rows)]

    def _squeeze(self, widths: dict[int, int], texts: Sequence[Sequence[str]], room: int) -> bool:
        """Make columns of text narrower, at most to their longest word, until the table fits. Whether it does."""
        least = {
            i: width if self._columns[i] in self._stiff else max(map(_longest_word, texts[i]))
            for i, width in widths.items()
        }
        if _whole(least.values()) > room:
            return False
        while _whole(widths.values()) > room:
            widest = max(widths, key=lambda i: (widths[i] > least[i], widths[i]))
            widths[widest] -= 1
        return True

    def _blocks(self, columns: Iterable[int], texts: Sequence[Sequence[str]], room: int) -> RenderResult:
        """A line for each value, its heading before it; above it where even that has no room."""
        from rich.text import Text

        chosen = list(columns)
        names = {i: self._columns[i].strip() for i in chosen}
        heading = max(map(len, names.values()))
        beside = all(heading + _GAP + _longest_word(text) <= room for i in chosen for text in texts[i][1:])
        for number, row in enumerate(self._rows):
            if number:
                yield Text()
            if beside:
                yield facts({names[i] or " " * i: row[i].strip() for i in chosen})
                continue
            for i in chosen:
                if row[i].strip():
                    yield Text(names[i], style="dim", overflow="fold")
                    yield Text.from_markup(row[i].strip(), overflow="fold")


def _longest_word(text: str) -> int:
    return max(map(_cells, text.split(" ")))


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _whole(widths: Collection[int]) -> int:
    """How wide a table of these columns is."""
    return sum(widths) + _GAP * (len(widths) - 1)


def facts(rows: Mapping[str, str | None]) -> Grid:
    """A line for each thing there is to know, in rich's markup; what is empty is left out."""
    from rich.table import Table as Grid

    made = Grid.grid(padding=(0, _GAP, 0, 0))
    made.add_column(style="dim", no_wrap=True, overflow="fold")
    made.add_column(overflow="fold")
    for name, text in rows.items():
        if text:
            made.add_row(name, text)
    return made


def escape(text: str) -> str:
    """``text`` for rich's markup: what looks like markup in it is shown."""
    from rich.markup import escape as escaped

    return escaped(text)


def dotted(*parts: str | None) -> str:
    """The parts that are not empty, with a faint dot between them."""
    return "[dim] · [/]".join(part for part in parts if part)


def state(name: str | None, *, text: str | None = None) -> str:
    """A state as a coloured dot and its word, in rich's markup."""
    word = text or name or "unknown"
    return f"[{STATE_STYLE.get(name or '', 'dim')}]●[/] {word}"
