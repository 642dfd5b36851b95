"""Servers that people use, at global addresses of a test's world: what they serve, and how they are started.

nginx serves a package index and a registry of npm's, both with their files at another host, a repository of Debian
packages and a large file; git its own protocol; PostgreSQL a database; a server in Python WebSockets. The certificate
is the tests' own, and its own authority.
"""

import base64
import hashlib
import io
import json
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.network.world import beyond
from tests.patience import EVENT_PATIENCE, until

NAMES = ("index", "debian", "git", "files", "socket", "db")
LARGE = 1 << 30
_NGINX = """
daemon off; worker_processes 1; pid PLACE/nginx.pid; error_log PLACE/error.log; user root;
events { worker_connections 1024; }
http {
  access_log off; sendfile on; types { } default_type application/octet-stream;
  client_body_temp_path PLACE/t1; proxy_temp_path PLACE/t2; fastcgi_temp_path PLACE/t3; uwsgi_temp_path PLACE/t4;
  scgi_temp_path PLACE/t5;
  ssl_certificate PLACE/cert.pem; ssl_certificate_key PLACE/key.pem;
  server { listen ADDRESS:80; listen ADDRESS:443 ssl; root PLACE/www; autoindex on;
    location /simple/ { types { } default_type text/html; index index.html; }
  }
}
"""
_GIT = """
import http.server, os, ssl, subprocess, sys
address, cert, key, root = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do(self):
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        env = {"PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
               "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(len(body)),
               "CONTENT_TYPE": self.headers.get("Content-Type", ""), "GIT_CONFIG_COUNT": "1",
               "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", "")}
        said = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True).stdout
        head, _, rest = said.partition(b"\\r\\n\\r\\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\\r\\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)
    do_GET = do_POST = do
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer((address, 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
_SOCKET = """
import asyncio, ssl, sys
from websockets.asyncio.server import serve
address, cert, key = sys.argv[1:]
async def echo(connection):
    async for message in connection:
        await connection.send(message)
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    patient = {"open_timeout": None, "ping_interval": None}
    async with serve(echo, address, 443, ssl=context, **patient), serve(echo, address, 80, **patient):
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Servers:
    """A directory with the certificate, and with what the servers serve."""

    place: Path

    @property
    def certificate(self) -> Path:
        """Of all of them, and of the authority that signed it: itself."""
        return self.place / "cert.pem"

    @property
    def key(self) -> Path:
        """The certificate's."""
        return self.place / "key.pem"


def prepare(place: Path) -> Servers:
    """Everything that is served; nothing is started."""
    made = Servers(place)
    names = "subjectAltName=" + ",".join(f"DNS:{name}.example.com" for name in NAMES)
    words = (
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=tests",
    )
    files = ("-keyout", str(made.key), "-out", str(made.certificate), "-addext", names)
    subprocess.run(["/usr/bin/openssl", *words, *files], check=True, capture_output=True)
    www = place / "www"
    (www / "simple/greeting").mkdir(parents=True)
    wheel = www / "simple/greeting/greeting-1.0-py3-none-any.whl"
    _wheel(wheel)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    link = f"https://files.example.com/simple/greeting/{wheel.name}#sha256={digest}"
    (www / "simple/greeting/index.html").write_text(f'<!DOCTYPE html><a href="{link}">{wheel.name}</a>')
    _npm(www / "npm")
    _debian(www / "debian")
    with (www / "large").open("wb") as large:
        large.truncate(LARGE)
    (www / "small").write_bytes(b"a small file\n" * 100)
    _repository(place / "git/greeting.git", place / "work")
    return made


def _wheel(path: Path) -> None:
    info = "greeting-1.0.dist-info"
    files = {
        "greeting.py": "TEXT = 'hello from a wheel'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)


def _npm(where: Path) -> None:
    """A registry with one package (npm documentation, "package metadata")."""
    where.mkdir()
    package = {"name": "greeting", "version": "1.0.0", "main": "index.js"}
    script = "module.exports = 'hello from a module';\n"
    data = _tar({"package/package.json": json.dumps(package), "package/index.js": script}, top="")
    (where / "greeting-1.0.0.tgz").write_bytes(data)
    integrity = f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"
    dist = {"tarball": "https://files.example.com/npm/greeting-1.0.0.tgz", "integrity": integrity}
    versions = {"1.0.0": {**package, "dist": dist}}
    document = {"name": "greeting", "dist-tags": {"latest": "1.0.0"}, "versions": versions}
    (where / "greeting").write_text(json.dumps(document))


def _debian(where: Path) -> None:
    """A flat repository with one package (deb(5), sources.list(5))."""
    where.mkdir()
    control = (
        "Package: greeting\nVersion: 1.0\nArchitecture: all\nMaintainer: Tests <tests@localhost>\nDescription: x\n"
    )
    members = {"debian-binary": b"2.0\n", "control.tar.gz": _tar({"control": control})}
    members["data.tar.gz"] = _tar({"usr/share/greeting": "hello from a package\n"})
    data = b"!<arch>\n"
    for name, content in members.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        data += b"\n" * (len(content) % 2)
    (where / "greeting.deb").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    index = f"{control}Filename: ./greeting.deb\nSize: {len(data)}\nSHA256: {digest}\n"
    (where / "Packages").write_text(index)


def _tar(files: dict[str, str], top: str = "./") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        seen: set[str] = set()
        for name, text in files.items():
            for parent in reversed(Path(name).parents[:-1]):
                if str(parent) not in seen:
                    seen.add(str(parent))
                    directory = tarfile.TarInfo(f"{top}{parent}")
                    directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(directory)
            member = tarfile.TarInfo(f"{top}{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def _repository(bare: Path, work: Path) -> None:
    work.mkdir()
    (work / "file").write_text("hello from a repository\n" * 1000)
    own = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), (*own, "commit", "-q", "-m", "one")):
        subprocess.run(["git", "-C", str(work), *words], check=True, capture_output=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(bare)], check=True, capture_output=True)


@contextmanager
def serving(servers: Servers, web: str, git: str, websockets: str) -> Iterator[None]:
    """Have nginx, git and WebSockets served at these addresses of the calling thread's world."""
    config = servers.place / "nginx.conf"
    config.write_text(_NGINX.replace("PLACE", str(servers.place)).replace("ADDRESS", web))
    keys = (str(servers.certificate), str(servers.key))
    programs = (
        ("/usr/sbin/nginx", "-c", str(config), "-e", str(servers.place / "error.log")),
        (sys.executable, "-c", _GIT, git, *keys, str(servers.place / "git")),
        (sys.executable, "-c", _SOCKET, websockets, *keys),
    )
    with beyond(web):
        started = [subprocess.Popen(words, stdin=subprocess.DEVNULL) for words in programs]
    try:
        for address in (web, git, websockets):
            _wait_for(address, 443)
        yield
    finally:
        for one in started:
            one.terminate()
            one.wait(EVENT_PATIENCE)


@contextmanager
def database(where: Path, address: str) -> Iterator[None]:
    """PostgreSQL at this address, for anybody, as a user who isn't root: it refuses to run as root."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert programs, "PostgreSQL is missing: apt-get install postgresql"
    user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
    where.mkdir(mode=0o755)
    data = where / "data"
    subprocess.run(["chown", "postgres:", where], check=True)
    words = ("-D", str(data), "--no-sync", "--auth=trust", "-U", "tests", "-E", "UTF8", "--locale=C")
    subprocess.run([*user, programs[-1] / "initdb", *words], check=True, capture_output=True, cwd=where)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 0.0.0.0/0 trust\n")
    settings = (f"listen_addresses={address}", "unix_socket_directories=", "fsync=off")
    options = [part for setting in settings for part in ("-c", setting)]
    with (where / "log").open("wb") as log, beyond(address):
        server = subprocess.Popen(
            [*user, programs[-1] / "postgres", "-D", str(data), *options], cwd=where, stdout=log, stderr=log
        )
    try:
        _wait_for(address, 5432)
        yield
    finally:
        server.terminate()
        server.wait(EVENT_PATIENCE)


def _wait_for(address: str, port: int) -> None:
    def listens() -> bool:
        with socket.socket() as one:
            return one.connect_ex((address, port)) == 0

    until(listens, lambda: f"nothing listens on {address}:{port}")


def resolver_files(place: Path, address: str) -> tuple[str, ...]:
    """Words that run a program in a mount namespace where the resolver is this one, as in a guest."""
    files = {
        "/etc/resolv.conf": f"nameserver {address}\noptions timeout:30 attempts:3 no-aaaa\n",
        "/etc/hosts": "127.0.0.1 localhost\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    script = ""
    for name, text in files.items():
        made = place / Path(name).name
        made.write_text(text)
        script += f"[ -e {name} ] && mount --bind {made} {name}; "
    return ("unshare", "--mount", "sh", "-c", script + 'exec "$@"', "sh")
