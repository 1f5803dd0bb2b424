"""The program ``router``: what an operator types.

app            the command tree: one line per command
context        what a command may touch of the outside world; tests hand in another one
client         HTTP towards a running router, standard library only
output         the terminal: tables, JSON, width, colours
units          numbers as people read them
charts         bars and sparklines
region_states  how regions and backends are, in a word
worldmap       a map of the world with regions on it
decision_view  a decision as a table
route          the route of one request in two lines
completion     one streamed answer as a client sees it
config_file    edits regions.toml and keeps its comments
region_edits   the edits behind ``router regions add | remove | set``
errors         what can go wrong, what to do next, and the exit code
help           how help looks
docs           makes docs/cli.md
commands/      one file per command group: parse the flags, run, print
demo/          what ``router demo`` consists of

Start-up is part of the promise (``router --help`` under 300 ms): a module of this package imports
nothing heavier than typer at its top; rich's tables, tomlkit, the router and the simulator are
imported inside the functions that use them.
"""
