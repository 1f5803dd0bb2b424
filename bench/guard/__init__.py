"""Has the hot path become dearer? `python -m bench.guard` divides the router's CPU time by that of a fixed program."""
