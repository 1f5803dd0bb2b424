"""nginx: a lower limit in C. One worker, keep-alive on both sides, no access log, no LLM features."""

from __future__ import annotations

import os
import subprocess

from bench import environments
from bench.peers.base import Gateway, Peer, Site, launch

CONFIG = """\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 65536;
error_log stderr error;
pid {folder}/nginx.pid;
events {{ worker_connections 60000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 1m;
    keepalive_requests 100000000;
    upstream engines {{
        {servers}
        keepalive 1024;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://engines;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


def _install() -> str:
    program, env = environments.debian("nginx", "nginx")
    said = subprocess.run([program, "-v"], env={**os.environ, **env}, capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition("/")[2]


def _start(site: Site) -> Gateway:
    program, env = environments.debian("nginx", "nginx")
    servers = "\n        ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in site.backends)
    user = "user root;" if os.geteuid() == 0 else ""
    config = site.write("nginx.conf", CONFIG.format(folder=site.folder, port=site.port, servers=servers, user=user))
    return launch(site, [program, "-p", site.folder, "-e", "stderr", "-c", config], ready="/health", env=env)


PEER = Peer("nginx", "nginx", _install, _start)
