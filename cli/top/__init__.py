"""``router top``: the fleet and its traffic, live, and what an operator does about it.

polling   what is asked of the router, and the threads that ask
view      what was read so far: the last answers, their age, figures over time
alarms    what is down, in a line
flows     which router's requests go to which region
sheets    a table as data: columns that fit, order, filter
fleet     the tables of regions, backends and models
traffic   the tables of keys, requests and events
pictures  the heading, charts and the map
details   everything about one backend, one region or one request
actions   drain, resume and notice, and what they would take away
foot      the line of tabs and the line of keys
once      one frame without a terminal of its own
grid      a table on the screen: cursor, scroll, mouse
dialogs   questions and the help on top of the screen
terminal  the terminal when the process is stopped and goes on
detail_screen  a screen about one thing
app       the program: tabs, keys, the timer

The lower part, from ``grid`` on, is Textual; the rest knows nothing of it and is tested without a terminal.
Only ``cli/commands/top.py`` imports this package, when the command runs: Textual takes a while to import.
"""
