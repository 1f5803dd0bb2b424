"""HAProxy: a lower limit in C. One thread, keep-alive on both sides, no log, no LLM features."""

from __future__ import annotations

import os
import resource
import subprocess

from bench import environments
from bench.peers.base import Gateway, Peer, Site, launch

CONFIG = """\
global
    nbthread 1
    maxconn {streams}
defaults
    mode http
    option http-no-delay
    option abortonclose
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    maxconn {streams}
frontend clients
    bind 127.0.0.1:{port} backlog 4096
    default_backend engines
backend engines
    balance leastconn
    http-reuse always
    fullconn {streams}
    {servers}
"""


FILES_SPARE = 500


def _install() -> str:
    program, env = environments.debian("haproxy", "haproxy")
    said = subprocess.run([program, "-v"], env={**os.environ, **env}, capture_output=True, text=True, check=True).stdout
    return said.split()[2].partition("-")[0]


def _start(site: Site) -> Gateway:
    program, env = environments.debian("haproxy", "haproxy")
    servers = "\n    ".join(f"server s{port} 127.0.0.1:{port} pool-max-conn 20000" for port in site.backends)
    # HAProxy refuses to start when twice its maxconn and its own needs exceed the limit of open files.
    streams = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - FILES_SPARE) // 2
    config = site.write("haproxy.cfg", CONFIG.format(port=site.port, servers=servers, streams=streams))
    return launch(site, [program, "-db", "-f", config], ready="/health", env=env)


PEER = Peer("haproxy", "HAProxy", _install, _start)
