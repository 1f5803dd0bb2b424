"""Scenarios from seeds: the production core among generated troubles, with rules that are checked at every step.

``python -m sim.seeds --scenarios 1000`` plays that many; a seed that breaks a rule is printed with the command that
replays it.

scenario  fleet, traffic and troubles, all from one integer
troubles  what can happen to backends, regions and routers
machine   an engine, simple and quick
serving   how machines serve what they are asked
story     requests, their attempts, and the routers
play      carries a scenario out in virtual time
rules     what must hold at every step
shrink    makes a failing scenario smaller
"""
