"""HTTP/1.1 on asyncio protocols: what both sides share.

flow      drives a coroutine by its events, without a task
head      strict checks of a request or response head, before and beside httptools
chunked   the strict decoder of chunked request bodies
inbound   a client's connection: requests in, answers out, one at a time and in order
outbound  a connection to a backend: a request out, its answer in
"""
