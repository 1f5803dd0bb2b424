"""How the demo looks: headings, answers that arrive token by token behind a bar in their region's colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from cli import units, worldmap
from cli.output import Output

if TYPE_CHECKING:
    from rich.text import Text

Json = dict[str, Any]

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue")
_WIDTH_MAX = 100
#: Lines a terminal must have before a map is worth them.
_MAP_HEIGHT = 34
_INDENT = "  "


class Screen:
    def __init__(self, out: Output, regions: Sequence[str]) -> None:
        self.out = out
        self._colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(regions)}
        self._name_width = max(map(len, regions), default=0)
        self.width = min(_WIDTH_MAX, out.width)

    def colour(self, region: str | None) -> str:
        return self._colours.get(region or "", "white")

    def region(self, name: str) -> str:
        """A region's name in its colour, in rich's markup."""
        return f"[{self.colour(name)}]{name}[/]"

    def heading(self, title: str, text: str = "") -> None:
        self.out.line("")
        self.out.line(f"[bold]{title}[/]" + (f"  [dim]{text}[/]" if text else ""))

    def line(self, text: str = "", *, indent: int = len(_INDENT)) -> None:
        """A line in rich's markup; what does not fit goes on below, as far from the edge."""
        from rich.padding import Padding

        self.out.line(Padding(text, (0, 0, 0, indent)) if text else "")

    def prompt(self, text: str, remark: str = "") -> None:
        from rich.markup import escape

        self.out.line("")
        self.out.line(f"{_INDENT}[bold]❯ {escape(text)}[/]" + (f"  [dim]{remark}[/]" if remark else ""))

    def code(self, text: str, language: str) -> None:
        """Something to copy: no wrapping, no frame."""
        self.out.line("")
        if not self.out.is_tty:
            self.out.plain("\n".join(f"{_INDENT}{line}" for line in text.splitlines()))
            return
        from rich.syntax import Syntax
        from rich.text import Text

        shown = Syntax(text, language, theme="ansi_dark", background_color="default").highlight(text)
        for line in shown.split("\n"):
            if line:
                self.out.console.print(Text.assemble(_INDENT, line), soft_wrap=True)

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """A spinner while something starts; a line when there is no terminal."""
        if self.out.is_tty:
            return self.out.console.status(f"[dim]{what} …[/]")
        self.out.note(f"{what} …")
        return nullcontext()

    def stream(self, region: str | None) -> Callable[[str], None]:
        """A function that prints pieces of an answer as they come, wrapped, behind the region's bar."""
        return self.out.flow(f"{_INDENT}[{self.colour(region)}]▎[/] ", self.width - 4)

    def dies(self, region: str) -> None:
        """In the middle of a line of its answer."""
        self.out.plain("")
        self.line(f"[bold red]✖ {region} is dead[/]")

    def map(self, views: Sequence[Json]) -> None:
        """Where the regions are, if the terminal has room for a map."""
        places = [v for v in views if v["location"]]
        if not self.out.is_tty or self.out.width < worldmap.COLUMNS or self.out.height < _MAP_HEIGHT or not places:
            return
        marks = [worldmap.Mark(v["location"], v["name"], self.colour(v["name"])) for v in places]
        for line in worldmap.draw(marks):
            self.out.line(line)

    @contextmanager
    def dots(self, regions: Sequence[str], count: int) -> Iterator[Dots]:
        """Requests as dots in the rows of their regions: live on a terminal, once at the end elsewhere."""
        dots = Dots(self, regions, count)
        if not self.out.is_tty:
            yield dots
            self.out.line(dots.render())
            return
        from rich.live import Live

        with Live(dots.render(), console=self.out.console, auto_refresh=False) as live:
            dots.changed = lambda: live.update(dots.render(), refresh=True)
            yield dots
            dots.changed()


class Dots:
    """How far each of some requests is, region by region."""

    def __init__(self, screen: Screen, regions: Sequence[str], count: int) -> None:
        self._screen = screen
        self._regions = regions
        self._waiting = count
        self._streaming = dict.fromkeys(regions, 0)
        self._done: dict[str, list[float]] = {name: [] for name in regions}
        self.changed: Callable[[], None] = lambda: None

    def started(self, region: str) -> None:
        self._waiting -= 1
        self._streaming[region] += 1
        self.changed()

    def finished(self, region: str, ttft_s: float) -> None:
        self._streaming[region] -= 1
        self._done[region].append(ttft_s)
        self.changed()

    def answered(self, region: str) -> int:
        return len(self._done[region])

    def render(self) -> Text:
        from rich.text import Text

        text = Text()
        width = max(map(len, self._regions))
        for name in self._regions:
            colour = self._screen.colour(name)
            done, streaming = self._done[name], self._streaming[name]
            if not done and not streaming and not self._waiting:
                continue
            text.append(f"{_INDENT}{name:<{width}}  ", style=colour)
            text.append("●" * len(done), style=colour)
            text.append("○" * streaming, style=colour)
            if done:
                middle = sorted(done)[len(done) // 2]
                text.append(f"  {len(done)}", style="bold")
                text.append(f"  first token after {units.seconds(middle)}", style="dim")
            text.append("\n")
        if self._waiting:
            text.append(f"{_INDENT}{'on the way':<{width}}  {'·' * self._waiting}\n", style="dim")
        text.rstrip()
        return text
