"""The admin API in front of several workers.

fanout   answers each route of ``control/routes`` from the answers of all workers
links    asks one worker, over its private unix socket
merge    puts the answers of several workers together; pure
tail     the tails of all workers as one stream of events
faults   injected faults, for workers that are started later
"""
