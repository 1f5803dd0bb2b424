"""One file for each group of commands. In each, from top to bottom: the flags, the work, how it looks.

A command parses its flags into an options object and hands it to ``run_…``, which gets the world through ``Context``.
"""
