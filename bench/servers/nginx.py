"""nginx as a streaming proxy in front of the sink: the lower bound for the cost of passing bytes on."""

from __future__ import annotations

import os
import shutil
from typing import ClassVar
from urllib.parse import urlsplit

from bench.servers.server import Server

CONFIGURATION = """
daemon off;
worker_processes 1;
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {temporary}/body;
    proxy_temp_path {temporary}/proxy;
    fastcgi_temp_path {temporary}/fastcgi;
    uwsgi_temp_path {temporary}/uwsgi;
    scgi_temp_path {temporary}/scgi;
    keepalive_requests 1000000;
    upstream sink {{ server {sink}; keepalive 64; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} {own_tls};
        location / {{
            proxy_pass {scheme}://sink;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_buffering off;
            {tls}
            {buffers}
        }}
    }}
}}
"""

#: Directives for TLS to the sink.
VERIFIED = """
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {certificate};
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
"""


#: Directives for TLS from clients.
SERVED = """ssl backlog=4096;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate}"""


class Nginx(Server):
    """The floor: nginx only passes bytes on. It does not authorise, cut or remember anything."""

    name = "nginx"
    protocol = "plain"
    path = "/bench/"
    about = "nginx, proxy_request_buffering off: the floor"
    #: Additional directives.
    buffers: ClassVar[str] = ""

    @classmethod
    def missing(cls) -> str | None:
        return None if shutil.which("nginx", path=_path()) else "nginx (Debian: apt install nginx-light)"

    def command(self) -> list[str]:
        configuration = self.directory / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                # Started by root, nginx would run its workers as a user who may not write here.
                user="user root;" if os.geteuid() == 0 else "",
                directory=self.directory,
                temporary=self.temporary,
                sink=urlsplit(self.store_url).netloc,
                scheme=urlsplit(self.store_url).scheme,
                tls=VERIFIED.format(certificate=self.sink.certificate) if self.store_tls else "",
                port=self.port,
                own_tls=SERVED.format(certificate=self.own_certificate()) if self.tls else "backlog=4096",
                buffers=self.buffers,
            )
        )
        program = shutil.which("nginx", path=_path())
        assert program is not None
        return [program, "-p", str(self.directory), "-c", str(configuration), "-e", str(self.directory / "error.log")]


class NginxLargeBuffers(Nginx):
    """nginx with large buffers, which takes a MiB at a time. This is the stricter floor."""

    name = "nginx-1m"
    about = "nginx with client_body_buffer_size 1m (by default 16k)"
    buffers = "client_body_buffer_size 1m;"


class NginxStoreTls(Nginx):
    """nginx with TLS to the sink."""

    name = "nginx-store-tls"
    about = "nginx with TLS to the store: the floor of that"
    store_tls = True


class NginxTls(Nginx):
    """nginx that takes TLS from clients, and passes on without."""

    name = "nginx-tls"
    about = "nginx over TLS: the floor of that"
    tls = True


class NginxBothTls(NginxStoreTls):
    """nginx with TLS on both sides."""

    name = "nginx-both-tls"
    about = "nginx over TLS, with TLS to the store: the floor of that"
    tls = True


def _path() -> str:
    """Return the search path for nginx, which Debian installs where only root's shell looks."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
