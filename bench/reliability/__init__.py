"""Does the router hold when things break? `python -m bench.reliability` runs what can be run on loopback and says so.

Real processes: routers, simulated engines, signals; real sockets. Every stream is compared, byte for byte, with the
text that the simulated model is known to say. `tests/chaos` runs the short form of the rows that matter most.

row          a row of the table: what is measured, against which bar
host         a machine of a region: several engines in one process
asking       clients: streams whose every event is kept with its time, and judged at the end
stage        engines and a router for a row
deaths       rows 1 and 2: regions and streams that die
silence      rows 3, 4, 6 and 7: backends that say nothing, or little
failing      rows 5, 8, 9 and 13: backends that answer, and badly
outages      rows 11, 15 and 17: nobody is there, or nobody who may be
changes      rows 10, 12, 14, 16 and 18: metrics, distances and addresses change, or engines are overloaded
lifecycle    rows 46, 47, 49, 50 and 51: the router itself stops, dies, or is told nonsense
starts       rows 48 and 52: routers follow each other, or start where they cannot
"""
