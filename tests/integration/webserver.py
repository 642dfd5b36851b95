"""Serves a directory with nginx, by TLS on the loopback, for as long as a context lasts."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.misbehaving import Authority, Server

#: A place of its own, without a daemon; nothing of the system's nginx is read.
NGINX = """
daemon off; master_process off; pid {base}/nginx.pid; error_log {base}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {base}/1; proxy_temp_path {base}/2; fastcgi_temp_path {base}/3;
  uwsgi_temp_path {base}/4; scgi_temp_path {base}/5;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem};
    root {root};
  }}
}}
"""


def free_port() -> int:
    with Server() as server:
        return server.port


@contextmanager
def serving(root: Path, base: Path, authority: Authority) -> Iterator[str]:
    """The origin at which `root` is served; `base` is a directory for nginx's own files."""
    authority.context("localhost")
    port = free_port()
    text = NGINX.format(base=base, port=port, pem=authority.directory / "localhost.pem", root=root)
    (base / "nginx.conf").write_text(text)
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "run ./setup"
    argv = [program, "-e", str(base / "error.log"), "-p", str(base), "-c", str(base / "nginx.conf")]
    with subprocess.Popen(argv) as nginx:
        try:
            while not (base / "nginx.pid").exists():  # it is written once nginx listens
                assert nginx.poll() is None, (base / "error.log").read_text()
            yield f"https://localhost:{port}"
        finally:
            nginx.terminate()
