"""The decision core: pure and synchronous.

Three rules hold in this folder and import-linter checks the first two: no I/O, no clock, no randomness of its own (time
comes in as ``now_s``, chance as an ``Rng``); no imports from the rest of ``router``; and no function here ever awaits,
so its callers can decide and count in one uninterrupted step.

Requests:
types           the values that travel between the core and the rest
course          one request over its attempts
decisions       the answers of a decision: dispatch, wait or reject
outcomes        how an attempt can end, and what follows from each end
admission       requests that wait for a place
hedging         when a late request is tried at a second backend, too
retry           how often this router may try again
limits          the kinds of limits: what each counts and how, its names and words
scopes          the scopes of limits: whose use is counted together
periods         calendar days and months
quota           the arithmetic of limits
spending        what was spent, thresholds of budgets, and what a month will come to
prices          what tokens cost, by who answers and from which day on
exposure        how much a request reserves while others in flight may use more than they did
tokens          how many tokens a request will cost

Decisions:
fleet           all backends and leases; filters, ranks, leases
candidates      the filters
losses          what could not be served without some backends
policy          how candidates are ranked, one file for each policy
cost            the terms of a quote, in seconds
refusal         whether to wait, else what is missing
degrading       whether a request gets a smaller variant of an overloaded model
dormancy        models of which nothing need run: what rests, where one is woken, why it cannot be
explain         why a decision was made
elsewhere       the fleet as seen from another region
suggest         words about unknown names
what_if         a decision taken again as if the fleet were another one

Backends:
backend         what is in flight at one backend, what is known of it, what it costs
configured      what is configured of it, and where it stands
capacity        how many requests it may have in flight, as learned
lane            one model on one backend
prompts         its prompts that are not computed yet
others          what peers and scrapes add to our counts
roll            every backend that the file and other sources name, and who of them goes away
leaving         backends that go away at a known time, and how their requests are handed over
bulletin        what backends announce to their fleet
common          what all backends share
knowledge       what a fleet has learned, as plain values
affinity        which backend knows the beginning of a prompt
audit           whether counts agree with leases

How many backends:
census          every model in every region: what there is, what is asked, what is needed
standing        what the backends of a model are asked, and which are saturated or starved
needed          how many backends keep first tokens in time
forecast        where a rate is going

Trust:
burn_in         whether a new backend has proved itself
health          states, events, and the counters that raise events
reputation      who comes last because of its latest failures
denials         models that a backend says it does not have
gpu_use         whether the GPUs of a backend have enough to do
gray            backends that answer far too slowly

Learning:
learn           what is learned of times, one file for each kind
decay           means, rates and sums that forget
params          every tunable

Engines and their answers:
traits          what each kind of engine is like
sse             streams of events as they go by
framing         where events end, and what their lines say
transcript      what a client has received of a stream, so that another backend can continue it
loop_guard      notices a text that repeats itself
seam            the events of the backend that goes on, made to fit
continuable     why an answer cannot be continued
long_events     events that are too long to be held
whole           answers in one piece
assembly        a whole answer put together from a stream
shapes          what whole answers of engines look like, for those put together from streams
endings         the words with which answers end or fail
forms           what an answer is made of
usage           tokens as engines report them
leniency        JSON as engines write it
"""
