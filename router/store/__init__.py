"""State that routers share: keys, quotas, drains and notices, and what each has in flight.

base            the contract of a store
groups          whose limits a request takes from besides its key's
together        a reservation in several accounts, all or none
open            chooses the store that the configuration asks for
memory          the store of a single process
shared          the store of many routers
redis           addresses, pipelines and errors of redis-py
pipe            one connection that carries many pipelines at once
cluster         pipelines to a Redis Cluster
embedded        a private Valkey beside the router
scripts         the Lua scripts: texts, arguments, replies
access          checks at the start that the store permits all that is needed
inspection      looks at a store for somebody who asks what is wrong
ailments        what is wrong with a store that is away, in words
courier         sends commands in batches, and lets nobody wait too long
patience        how long that is: by the measured round trip
insist          how long an operator waits for the store
questions       what requests ask the store, of one account in one command
heartbeat       beats while the store is up and probes while it is down
degraded        what a router may give out while the store is down
alone           what it decides then
purse           the allowances of one key, spent without asking
forgotten       where an account stood before the store lost it
appetite        how much a key has used here lately
slots           places for requests in progress, each leased
taken           what answers that were lost had given
quota_file      the use of each account in a file, for a start while the store is away
ledger          all purses of a router and their traffic with the store
answers         limits of an account as clients and operators see them
keys            API keys: made, hashed, looked up
snapshot        the keys in a file, for a start while the store is away
keysync         the local snapshot of the keys in the shared store
newer_keys      looks for those that other routers made a moment ago, before a request is refused
asking          questions that routers ask each other, and their answers
fleet_exchange  what routers tell each other of leases and prefixes, and when
tidings         the messages they tell it in
streams         what routers tell each other in order: capped, and kept for those that come later
notes           small facts that routers share and may forget
spend_book      what was spent, by day and month
lua/            the arithmetic of ``core/quota`` inside Redis
"""
