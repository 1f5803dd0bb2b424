"""What the demo shows, scene by scene. Each raises CliError when what it shows did not happen."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cli import units
from cli.client import Remote
from cli.completion import Answer, complete
from cli.demo.screen import Dots, Screen
from cli.demo.stage import TINY_REQUESTS, Stage
from cli.errors import CliError, StatusError
from cli.output import dotted, escape
from cli.route import find_record, route_line, why_line

#: A prompt, the jurisdiction its data must stay in, and what to say about that.
PROMPTS: tuple[tuple[str, str | None, str], ...] = (
    ("Why is the sky blue?", None, ""),
    ("Name three cities on the Danube.", "eu", "the data must stay in the EU"),
    ("Write a haiku about the sea.", None, ""),
    ("What is worth seeing in Kyoto?", "jp", "the data must stay in Japan"),
)

_WORDS = ("tide", "lamp", "river", "stone", "cloud", "grain", "paper", "harbor", "willow", "copper", "orchard")

_AFTER_OUTAGE = 8
#: Pieces of an answer that come before its region dies.
_PIECES_BEFORE_DEATH = 18
_RETURN_SEEN_S = 20.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much the demo asks for; real engines on a few cores are asked for less."""

    answer_tokens: int
    burst: int
    burst_prompt_words: int
    burst_answer_tokens: int
    warm_up_words: tuple[int, ...]
    repeats: bool  # the same prompt has the same answer


SIMULATED = Size(48, 24, 120, 20, (10, 150, 60, 250), repeats=True)
REAL = Size(32, 9, 120, 12, (10, 120, 60), repeats=False)


class Show:
    """The scenes, with what they need."""

    def __init__(self, stage: Stage, screen: Screen, size: Size, key: str) -> None:
        self._stage = stage
        self._screen = screen
        self._size = size
        self._api: Remote = stage.api(key)
        self._regions = stage.world.regions

    def warm_up(self) -> None:
        """Prompts of several lengths to each region: they teach the router what a token costs there."""

        def visit(region: str) -> None:
            for index, words in enumerate(self._size.warm_up_words):
                text = story(1000 + index, words)
                self._complete(self._api, text, max_tokens=2, headers={"x-router-region": region})

        with ThreadPoolExecutor(len(self._regions)) as pool:
            list(pool.map(visit, self._regions))

    def fleet(self) -> None:
        """Where everything is."""
        screen = self._screen
        screen.heading("Three regions, one router", self._stage.world.summary)
        views = self._stage.admin.get("/admin/v1/regions")["data"]
        screen.map(views)
        for view in views:
            distance = f"{units.seconds(view['rtt_s'])} away"
            engines = units.plural(len(view["backends"]), "engine")
            here = "the router stands here" if view["name"] == self._regions[0] else None
            name = f"[{screen.colour(view['name'])}]{view['name']:<14}[/]"
            law = f"jurisdiction {view['jurisdiction']}"
            screen.line(f"{name} {dotted(engines, law, distance, here)}")

    def prompts(self, count: int) -> None:
        """Prompts one after the other: where each is answered, and why."""
        self._screen.heading("Each prompt goes where its first token comes soonest", "and the router says why")
        for index in range(count):
            text, law, remark = PROMPTS[index % len(PROMPTS)]
            headers = {"x-router-residency": law} if law is not None else {}
            self._ask(text, remark, headers=headers)

    def burst(self) -> None:
        """More prompts at once than the near region answers quickly: they spill over."""
        size, near = self._size, self._regions[0]
        title = f"{size.burst} long prompts at once"
        self._screen.heading(title, f"{near} alone would queue them: those for whom it pays go further")
        with self._screen.dots(self._regions, size.burst) as dots:
            self._at_once(size.burst, dots, size.burst_prompt_words, size.burst_answer_tokens)
        if not any(dots.answered(region) for region in self._regions[1:]):
            raise CliError(f"every prompt of the burst was answered in {near}: nothing spilled over")

    def outage(self) -> None:
        """A region dies in the middle of a sentence, and the sentence goes on."""
        screen = self._screen
        screen.heading(
            "A region dies in the middle of a sentence",
            "every engine there gets SIGKILL, and another region goes on",
        )
        dead = self._cut_short(PROMPTS[0][0])
        screen.line()
        with screen.dots(self._regions, _AFTER_OUTAGE) as dots:
            self._at_once(_AFTER_OUTAGE, dots, 8, 8)
        if dots.answered(dead):
            raise CliError(f"{dead} was killed and yet it answered")
        screen.line("[green]every prompt was answered[/]: what the dead region refused was tried elsewhere at once")
        with screen.waiting(f"{dead} gets its power back"):
            self._stage.world.restart(dead)
            self._stage.wait_usable(dead, timeout_s=_RETURN_SEEN_S)
        screen.line(f"{screen.region(dead)} is back and gets its share step by step")

    def _cut_short(self, text: str) -> str:
        """One prompt, whose region is killed while it answers. Returns the region."""
        screen, world = self._screen, self._stage.world
        screen.prompt(text)
        write: Any = None
        pieces, dead, died_s, paused_s = 0, "", 0.0, 0.0

        def start(answer: Answer) -> None:
            nonlocal write, dead
            dead = str(answer.region)
            write = screen.stream(dead)

        def take(piece: str) -> None:
            nonlocal pieces, died_s
            write(piece)
            pieces += 1
            if pieces == _PIECES_BEFORE_DEATH:
                world.kill(dead)
                died_s = time.monotonic()
                screen.dies(dead)

        def go_on(backend: str) -> None:
            nonlocal write, paused_s
            paused_s = time.monotonic() - died_s
            write = screen.stream(backend.partition("/")[0])

        tokens = self._size.answer_tokens
        answer = self._complete(self._api, text, max_tokens=tokens, on_start=start, on_text=take, on_leg=go_on)
        screen.out.plain("")
        if not answer.went_on:
            raise CliError(f"{dead} was killed, and nobody went on with its answer")
        screen.line(f"[{screen.colour(answer.went_on[-1].partition('/')[0])}]▶[/] {route_line(answer)}")
        same = "one stream for the client, nothing missing, nothing twice"
        if self._size.repeats:
            if self._complete(self._api, text, max_tokens=tokens).text != answer.text:
                raise CliError("the answer that was cut short is not the one that comes undisturbed")
            same = "byte for byte the answer that comes undisturbed"
        screen.line(f"[green]went on after {units.seconds(paused_s)}[/]: {same}", indent=4)
        return dead

    def quota(self) -> None:
        """A key that is used up gets 429, and is told when to come again."""
        screen = self._screen
        screen.heading("A key with a small plan", f"{TINY_REQUESTS} requests a minute, for all routers together")
        api = self._stage.api(self._stage.create_key("tiny", "tiny"))
        for number in range(1, TINY_REQUESTS + 2):
            try:
                answer = self._complete(api, "Hello", max_tokens=4)
            except StatusError as error:
                if error.status != 429 or number <= TINY_REQUESTS:
                    raise
                screen.line(f"{number}  [yellow]429[/]  {escape(str(error.error.get('message') or error.message))}")
                return
            left = answer.headers.get("x-ratelimit-remaining-requests", "?")
            screen.line(f"{number}  [green]200[/]  {dotted(str(answer.backend), f'{left} left')}")
        raise CliError("the key of the plan tiny was not refused")

    def _at_once(self, count: int, dots: Dots, words: int, answer_tokens: int) -> None:
        """So many different prompts at the same time, each a dot."""
        lock = threading.Lock()

        def one(index: int) -> None:
            def start(answer: Answer) -> None:
                with lock:
                    dots.started(str(answer.region))

            answer = self._complete(self._api, story(index, words), max_tokens=answer_tokens, on_start=start)
            with lock:
                dots.finished(str(answer.region), answer.ttft_s or 0.0)

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(one, range(count)))

    def _ask(self, text: str, remark: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """One prompt, its answer as it comes, its route and the reasons."""
        screen = self._screen
        screen.prompt(text, remark)
        write: Any = None

        def start(answer: Answer) -> None:
            nonlocal write
            write = screen.stream(answer.region)

        answer = self._complete(
            self._api,
            text,
            max_tokens=self._size.answer_tokens,
            headers=headers,
            on_start=start,
            on_text=lambda piece: write(piece),
        )
        screen.out.plain("")
        colour = screen.colour(answer.region)
        screen.line(f"[{colour}]▶[/] {route_line(answer)}")
        record = find_record(self._stage.admin, answer.request_id)
        if record is None:
            raise CliError(f"the router has no record of {answer.request_id}")
        for attempt in record["attempts"][:-1]:
            outcome = f"[yellow]{attempt['outcome']}[/] at {attempt['backend']}"
            screen.line(dotted(outcome, attempt["detail"], "then tried elsewhere"), indent=4)
        screen.line(f"[dim]{why_line(record)}[/]", indent=4)
        return answer

    def _complete(self, api: Remote, text: str, **options: Any) -> Answer:
        return complete(api, self._stage.world.model, [{"role": "user", "content": text}], **options)


def story(index: int, words: int) -> str:
    """A prompt of so many words that begins like no other, so that no engine knows any of it."""
    picked = (_WORDS[(index * 7 + i * (index + 3)) % len(_WORDS)] for i in range(words))
    return f"Story number {index}: {' '.join(picked)}"
