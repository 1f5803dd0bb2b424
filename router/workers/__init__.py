"""Several router processes behind one address: ``[router] workers``.

``parent.py`` is the process that was started. It owns the sockets and the configuration and serves operators; it sees
no client's byte. ``crew.py`` starts the workers and replaces those that die. ``__main__.py`` is a worker: an App that
takes its clients from the shared socket.
"""
