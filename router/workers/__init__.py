"""Several router processes behind one address: ``[router] workers``.

run         starts one router or the parent of several
parent      the process in front: owns sockets and configuration, serves operators, never reads from a client
crew        starts the workers and replaces those that die
orders      the configuration and descriptors that a worker gets when it starts
acceptor    accepts clients from the shared socket
board       shared memory with each worker's count of clients
admin/      the admin API in front of several workers

``python -m router.workers`` is one worker: an App that takes its clients from the shared socket.
"""
