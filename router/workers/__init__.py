"""Several router processes behind one address: ``[router] workers``.

run         starts one router or the parent of several
parent      the process that was started: owns sockets and configuration, serves operators, sees no client's byte
crew        starts the workers and replaces those that die
orders      what a worker is told when it starts
acceptor    takes clients from the shared socket
board       shared memory with each worker's count of clients
admin/      the admin API in front of several workers

``python -m router.workers`` is one worker: an App that takes its clients from the shared socket.
"""
