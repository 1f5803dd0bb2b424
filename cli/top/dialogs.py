"""Questions and the help, on top of whatever is shown."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from cli.top.actions import Question
from cli.top.pictures import as_drawn
from router import moments

_BOX = """
{name} {{ align: center middle; background: transparent; }}
{name} > Vertical {{
    width: 84; max-width: 96%; height: auto; max-height: 100%; padding: 0 1; overflow-y: auto;
    border: round ansi_bright_black; background: ansi_default;
}}
{name} Static {{ width: 100%; height: auto; background: ansi_default; color: ansi_default; }}
{name} Input {{ width: 30; background: ansi_default; color: ansi_default; border: none; height: 1; padding: 0; }}
"""

HELP = """\
[bold]Look[/]
 1 to 6, Tab, ← →   the tabs; so does a click
 ↑ ↓ j k            the cursor; PgUp PgDn Home End go farther
 Enter              look into the row; so does a double click
 Esc                back; ends a filter
 s, S               order by the next column; the other way round
                    (or click on a heading)
 /                  filter: words that a row must have, -word: must not,
                    status:5xx region:eu key:alice tenant:acme
 p, space           pause: the screen stands still
 + -                a longer or shorter interval
 q, Ctrl-C          quit; Ctrl-Z stops it until `fg`

[bold]Act[/] on a region or a backend; it asks first, and says what would be lost
 d                  drain: no new requests
 r                  resume: end a drain or a notice
 n                  notice: it goes away soon, requests are handed over

Figures are of the last minute, /1h of the last hour; grey ones are old."""


class HelpScreen(ModalScreen[None]):
    DEFAULT_CSS = _BOX.format(name="HelpScreen")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter,space", "dismiss", show=False)]

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(as_drawn(Text.from_markup(HELP), wrap=True))

    def on_click(self) -> None:
        self.dismiss()


class ConfirmScreen(ModalScreen[bool]):
    """y says yes; everything else says no."""

    DEFAULT_CSS = _BOX.format(name="ConfirmScreen")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,Y", "answer(True)", show=False),
        Binding("n,N,escape,enter,q", "answer(False)", show=False),
    ]

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        colour = "red" if self._question.losses else "green"
        with Vertical():
            yield Static(Text(f"{self._question.what}?", style="bold"))
            yield Static(as_drawn(Text(self._question.text, style=colour), wrap=True))
            yield Static(Text.from_markup("[bold]y[/] yes   [bold]n[/] no"))

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class NoticeScreen(ModalScreen[float | None]):
    """In how many seconds it goes away; None: it does not."""

    DEFAULT_CSS = _BOX.format(name="NoticeScreen")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", show=False)]

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        colour = "red" if self._question.losses else "green"
        with Vertical():
            yield Static(Text(f"{self._question.what}: in how long does it go away?", style="bold"))
            yield Static(as_drawn(Text(self._question.text, style=colour), wrap=True))
            yield Input("2m", id="span")
            yield Static(Text.from_markup("30s, 5m, 2h; [bold]Enter[/] gives notice, [bold]Esc[/] does not"), id="hint")

    def on_mount(self) -> None:
        self.set_focus(self.query_one(Input))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if (found_s := moments.span_s(event.value.strip())) is None:
            self.query_one("#hint", Static).update(
                as_drawn(Text(f"{event.value!r} is not a span: 30s, 5m, 2h", style="red"))
            )
            return
        self.dismiss(found_s)

    def action_give_up(self) -> None:
        self.dismiss(None)
