"""The program ``router``: what an operator types.

app        the command tree: one line per command
context    what a command may touch of the outside world; tests hand in another one
client     HTTP towards a running router, standard library only
output     terminal, tables, JSON; ``units``, ``charts``, ``decision_view`` say how things look
errors     what can go wrong, what to do next, and the exit code
commands/  one file per command group: parse the flags, run, print

Start-up is part of the promise (``router --help`` under 300 ms): a module of this package imports
nothing heavier than typer at its top; rich's tables, tomlkit, the router and the simulator are
imported inside the functions that use them.
"""
