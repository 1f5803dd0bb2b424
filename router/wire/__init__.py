"""HTTP/1.1 on asyncio protocols: what both sides share.

flow         drives a coroutine by its events, without a task
head         strict checks of a request or response head, before and beside httptools
chunked      the strict decoder of chunked request bodies
gate         what all clients of a listener share: limits, and who waits since when
upload       a body that arrives in pieces
inbound      a client's connection: requests in, answers out, one at a time and in order
outbound     a connection to a backend: a request out, its answer in
listeners    the sockets that clients and operators come to
shared_port  a port that two routers listen on while one takes over
acceptor     accepts clients while there are descriptors for them
descriptors  how many descriptors there are, and how many are kept back
sockets      options of every socket, and errors that mean that this process is short of something
dial         connects to the first address that answers
names        resolves host names beside the requests
tls          TLS towards backends
trouble      why a connection failed, in plain words
"""
