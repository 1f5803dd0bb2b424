"""A conversation at the terminal: turns, the route and the timing of each, and commands that begin with a slash."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cli.commands.explain import print_decision
from cli.completion import Answer, complete
from cli.context import Context
from cli.errors import CliError, Exit, StatusError, unknown
from cli.output import escape
from cli.route import find_record, route_line, why_line
from cli.why import sentence

Json = dict[str, Any]

_ANY = ("any", "-", "none")
_PROMPT = "> "
_MORE = "… "

#: command -> what it does
COMMANDS = {
    "/region [NAME]": "Ask only this region from now on; `any` for all of them.",
    "/model [NAME]": "Ask this model from now on.",
    "/explain": "Show every candidate of the last decision.",
    "/new": "Begin a new conversation.",
    "/help": "This list.",
    "/quit": "Leave. So does Ctrl-D.",
}
_ALSO = {"/exit": "/quit", "/q": "/quit", "/?": "/help", "/h": "/help", "/clear": "/new"}


@dataclass
class Asking:
    """The choices that hold for every turn."""

    model: str
    max_tokens: int | None = None
    region: str | None = None
    residency: str | None = None
    explain: bool = False
    as_json: bool = False

    def headers(self) -> dict[str, str]:
        asks = {"x-router-region": self.region, "x-router-residency": self.residency}
        return {name: text for name, text in asks.items() if text is not None}


@dataclass
class Conversation:
    """``api`` is the router's client surface."""

    ctx: Context
    api: Any
    asking: Asking
    messages: list[Mapping[str, str]] = field(default_factory=list)
    #: the id of the last turn, also of one that failed
    last: str | None = None
    #: one line without its end; None: there are no more
    read: Callable[[str], str | None] = lambda prompt: None

    def turn(self, prompt: str) -> Answer:
        """Ask, show the answer as it comes, then its route. Raises CliError; then the turn has not happened."""
        out, asking = self.ctx.out, self.asking
        messages = [*self.messages, {"role": "user", "content": prompt}]
        try:
            answer = complete(
                self.api,
                asking.model,
                messages,
                max_tokens=asking.max_tokens,
                headers=asking.headers(),
                on_text=(lambda text: None) if asking.as_json else out.flow(room=out.width if out.is_tty else None),
            )
        except CliError as error:
            self.last = error.request_id or self.last
            if isinstance(error, StatusError):
                self._check_names(error)
            raise
        self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        self.last = answer.request_id
        return answer

    def _check_names(self, error: StatusError) -> None:
        """A request that was refused may name a model or a region that there is not. Raises CliError if so."""
        asking = self.asking
        if error.status == 404 and asking.model not in (known := self._models()):
            raise unknown("model", asking.model, known) from None
        if error.status == 503 and asking.region and (known := self._regions()) and asking.region not in known:
            raise unknown("region", asking.region, known) from None

    def show_route(self, answer: Answer) -> None:
        from rich.padding import Padding

        out = self.ctx.out
        out.plain("")
        out.plain("")
        out.line(f"[green]▶[/] {route_line(answer)}")
        record = find_record(self.ctx.admin, answer.request_id)
        if record is None:
            if self.asking.explain:
                out.warn(
                    f"no admin API at {self.ctx.admin.url} knows this request: say --admin-url to see the decision"
                )
        elif self.asking.explain:
            out.line("")
            print_decision(self.ctx, record["decision"])
        else:
            out.line(Padding(f"[dim]{why_line(record)}[/]", (0, 0, 0, 2)))

    # turn by turn

    def run(self) -> Exit | int:
        """Until there are no more lines. 130: left with Ctrl-C."""
        if not self.asking.as_json:
            self.ctx.out.note(f"{self.asking.model} · /help lists the commands, Ctrl-D leaves")
        stopped = False
        while True:
            try:
                text = self._next()
                if text is None or not self.one(text):
                    return Exit.OK
                stopped = False
            except KeyboardInterrupt:
                if stopped:
                    return 130
                stopped = True
                self.ctx.out.plain("")
                self.ctx.out.note("stopped; Ctrl-C again, Ctrl-D or /quit leaves")

    def _next(self) -> str | None:
        """One turn; a line that ends in a backslash goes on in the next one."""
        lines: list[str] = []
        while True:
            line = self.read(_MORE if lines else _PROMPT)
            if line is None:
                return "\n".join(lines) if lines else None
            lines.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                return "\n".join(lines)

    def one(self, text: str) -> bool:
        """A turn, or a command. False: leave. Errors are shown, and the conversation stays as it was."""
        text = text.strip()
        if not text:
            return True
        try:
            if text.startswith("/"):
                return self._command(text)
            answer = self.turn(text)
            if self.asking.as_json:
                self.ctx.out.json_line(answer.document())
            else:
                self.show_route(answer)
                self.ctx.out.plain("")
        except CliError as error:
            self.ctx.out.error(error)
        return True

    def _command(self, text: str) -> bool:
        word, _, rest = text.partition(" ")
        word = _ALSO.get(word, word)
        rest = rest.strip()
        match word:
            case "/quit":
                return False
            case "/help":
                self._help()
            case "/new":
                self.messages, self.last = [], None
                self.ctx.out.note("a new conversation")
            case "/region":
                self._region(rest)
            case "/model":
                self._model(rest)
            case "/explain":
                self._explain()
            case _:
                raise unknown("command", word, COMMANDS)
        return True

    def _help(self) -> None:
        widest = max(map(len, COMMANDS))
        for command, what in COMMANDS.items():
            self.ctx.out.line(f"{escape(command.ljust(widest))}  [dim]{escape(what)}[/]")

    def _region(self, name: str) -> None:
        if name in _ANY:
            self.asking.region = None
        elif name:
            known = self._regions()
            if known and name not in known:
                raise unknown("region", name, known)
            self.asking.region = name
        else:
            self._list("region", self._regions(), self.asking.region)
        self.ctx.out.note(f"region: {self.asking.region or 'any'}")

    def _models(self) -> list[str]:
        return [str(model["id"]) for model in self.api.get("/v1/models")["data"]]

    def _model(self, name: str) -> None:
        known = self._models()
        if name and name not in known:
            raise unknown("model", name, known)
        if name:
            self.asking.model = name
        else:
            self._list("model", known, self.asking.model)
        self.ctx.out.note(f"model: {self.asking.model}")

    def _list(self, what: str, names: list[str], current: str | None) -> None:
        for name in names:
            self.ctx.out.line(f"[green]▶[/] {escape(name)}" if name == current else f"  {escape(name)}")

    def _regions(self) -> list[str]:
        """Without an admin API nobody tells them."""
        try:
            return [str(region["name"]) for region in self.ctx.admin.get("/admin/v1/regions")["data"]]
        except (CliError, KeyError, TypeError):
            return []

    def _explain(self) -> None:
        if self.last is None:
            raise CliError("nothing has been asked yet", code=Exit.USAGE)
        record = find_record(self.ctx.admin, self.last)
        if record is None:
            raise CliError(
                f"no admin API at {self.ctx.admin.url} knows this request", hint="Name the router's with --admin-url."
            )
        self.ctx.out.line(escape(sentence(record)))
        self.ctx.out.line("")
        print_decision(self.ctx, record["decision"])


def line_of_terminal(prompt: str) -> str | None:
    """The next line of the standard input; with editing and the lines before it where somebody sits there."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.removesuffix("\n") if line else None
    import readline  # noqa: F401 - input() uses it

    try:
        return input(prompt)
    except EOFError:
        sys.stdout.write("\n")
        return None
