"""The program ``router``: what an operator types.

app            the commands by name, and the start
tree           the command tree as Typer has it
overview       the help of the whole program
quick          JSON for scripts, without Typer
world          the outside world as commands may touch it; tests hand in another one
context        flags that many commands have, and the world of an invocation
contexts       routers by name, and which of them a command asks
names          names that the TAB key completes
private_files  files that only this user may read
client         HTTP towards a running router, standard library only
output         the terminal: tables, JSON, width, colours
iso_times      ISO times in JSON, beside seconds
units          numbers as people read them
charts         bars and sparklines
measurements   what a running router knows and has recorded, for replay and plan
region_states  how regions and backends are, in a word
region_tables  tables of regions and backends, and all facts about one
confirm        what a command would take away, and whether that is meant
worldmap       a map of the world with regions on it
decision_view  a decision as a table
tail_view      requests as they come, a line for each
waterfall      one request on an axis of time
why            why a request was slow, in a sentence
route          the route of one request in two lines
completion     one streamed answer as a client sees it
conversation   several, turn by turn, and the commands between them
bench_view     the figures of a load, as they come and at its end
config_file    edits regions.toml and keeps its comments
applying       another text in place of the router's file, checked by the router, and the texts before
asking         asks engines themselves, without a router
first_file     the first regions.toml for engines that are there
problems       problems and warnings of a file, taken apart for scripts
region_edits   the edits behind ``router regions add | remove | set``
errors         errors with advice and an exit code
help           how help looks
examples       examples for every command
docs           makes docs/cli.md
manual         makes docs/router.1, the manual page
top/           the live view
commands/      one file per command group: parse the flags, run, print
doctor/        the checks of ``router doctor``
demo/          the parts of ``router demo``

Start-up is part of the promise: ``router --help`` and ``router status --json`` take less than 150 ms of processor time
over bare Python. A start imports one module of ``commands``; help of the program and JSON for scripts come without
Typer; a module of this package imports nothing heavier than Typer at its top. Rich's tables, tomlkit, the router and
the simulator are imported inside the functions that use them.
"""
