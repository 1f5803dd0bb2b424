"""Meridian's server. Read ``gateway/lifecycle.py`` first; ARCHITECTURE.md shows how the rooms depend on each other.

app        the composition root: builds, starts and stops a router process
core/      every decision; pure
gateway/   towards clients
upstream/  towards backends
wire/      HTTP/1.1 for both
identity/  who the bearer of a JWT is
store/     what routers share
observe/   probes and scrapes
discovery/ backends that no table of the file names
control/   the admin API and reload
telemetry/ metrics, journal, log
config/    regions.toml
workers/   several processes behind one address
errors     every error that a client or operator can meet
complaint  when a lasting fault is worth another log line
tasks      named background tasks
land       the land of the world, for maps
deadline   time-outs that a busy process does not hold against the other side
clock      the time, for everything outside the core
moments    moments and spans of time as people write them
words      a number of things in words
protobuf   fields of messages as bytes
systemd    sockets that the service manager hands down, and what it wants to be told
stdio      standard streams that may be closed
signals    how signals reach the loop, and that they spoil no end
"""

__version__ = "0.1.0"
