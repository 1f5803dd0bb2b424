"""Has the hot path become dearer? `python -m bench.guard` compares the router's CPU time with that of a fixed program."""
