"""Towards clients. Read lifecycle.py first: it is the path of one request from its last byte in to its record.

The path, in order:
server         the listener: connections to exchanges, stopping
envelope       what the head of a request says, read once per distinct head
auth           whose request it is
ingress        what the body asks: a peek at a few fields of untouched bytes
extent         which of these say how long the answer and the prompt may be
demand         ask and key -> the core's Request
charging       tokens and money: reserved first, settled in the end
lifecycle      the path of one request
waiting        where requests wait until a backend can take them
holding        where they are held while nothing runs and a backend is being woken
attempt        one try on one backend, from its lease to its end
hedge          a second attempt beside a late one
relay          the backend's half: what it answers, held until it is good, then passed on as it comes
stream_tally   events of a stream that were passed on: counted, kept, watched for loops
leash          how long an attempt is waited for, and how it is ended from outside
continuing     continues a stream that broke off: whether, and with what
rest           the request for the rest of an answer
loops          notes or ends a stream that repeats itself, as its plan says
assembling     whole answers that are asked for as streams
token_count    how many tokens of it there are, as an engine counts
answer         the client's half: begun once, ended once, however many attempts it takes
exchange       everything about one request that outlives a stop

Beside it:
shown_cost     the header that tells what an answer costs
settings       what a configuration gives the request path
handover       requests of backends that go away at a known time go to others
deadlines      how long backends may be silent
steps          work over long bodies, by turns with everything else
members        where the members of a JSON object stand, without parsing it whole
multipart      the same for forms
media          what of a prompt is not text, and what it counts as
aliases        model names clients use -> models that backends serve
upstream_body  the body for an engine, where it is not the client's own
keepers        which backend keeps a response that is named by its id
poison         requests that backends died of
pings          signs of life in the silence of streams
readers        clients that do not read their answers
failures       what a client is told when no backend answers
error_shapes   errors as OpenAI's and Anthropic's clients read them
responses      the heads of answers, formatted in one place
paths          every spelling of a path brought to one
pages          the paths that the router answers itself
cors           web pages that may ask
explain        where a request would go, without sending it
in_flight      the requests that are on their way now, for operators
tls            the certificate of the clients' listener
"""
