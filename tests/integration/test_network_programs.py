"""What people do with a network works out of the box: their programs, in a guest's place, through the real gateway.

The programs are this machine's, in the network namespace of a guest without a VM; what a VM adds is in tests/vm. The
servers are real, and started here.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mvmnix.builder.pins.configured import client_settings
from mvmnix.network.host.namespace_setup import GATEWAY
from tests.hostile.network.clients import turning
from tests.hostile.network.world import World, world
from tests.integration import network_servers
from tests.integration.network_servers import LARGE, Servers
from tests.patience import PATIENCE

pytestmark = pytest.mark.root("it makes network namespaces of its own")
WEB, GIT, SOCKET, DB = "93.184.216.34", "151.101.1.140", "151.101.65.140", "151.101.129.140"
HOSTS = f"""
{WEB} index.example.com debian.example.com files.example.com
{GIT} git.example.com
{SOCKET} socket.example.com
{DB} db.example.com
"""
ALLOW = (
    *(f"https://{name}.example.com" for name in ("index", "debian", "git", "files", "socket")),
    *(f"http://{name}.example.com" for name in ("debian", "files", "socket")),
    "tcp:db.example.com:5432",
)


@dataclass(frozen=True)
class Guest:
    """Where programs run as a guest's would."""

    here: World
    servers: Servers
    resolver: tuple[str, ...]
    home: Path

    def run(self, *argv: str | Path, seconds: float = PATIENCE) -> str:
        """A program's output, once it has ended well."""
        done = self.tried(*argv, seconds=seconds)
        assert done.returncode == 0, done.stdout + done.stderr + self.here.describe()
        return done.stdout

    def tried(self, *argv: str | Path, seconds: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "SSL_CERT_FILE": str(self.servers.certificate),
        }
        words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *map(str, argv)]
        with turning(self.here):
            return self.here.guest.run(*self.resolver, *words, seconds=seconds)

    def python(self, script: str) -> str:
        return self.run(sys.executable, "-c", script)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    base = tmp_path_factory.mktemp("programs")
    servers = network_servers.prepare(base)
    (base / "home").mkdir()
    with ExitStack() as stack:
        addresses = (WEB, GIT, SOCKET, DB)
        here = stack.enter_context(world(base, ALLOW, hosts=HOSTS, addresses=addresses))
        stack.enter_context(network_servers.serving(servers, WEB, GIT, SOCKET))
        yield Guest(here, servers, network_servers.resolver_files(base, GATEWAY), base / "home")


def told(tool: str, path: str) -> tuple[str, ...]:
    """Words that run a program with the variables that a preset has for an index here."""
    settings = client_settings(tool, f"https://index.example.com/{path}/")
    return ("env", *(f"{name}={value}" for name, value in settings.environment.items()))


def test_pip_installs_from_an_index(guest: Guest, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip = (sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", f"--timeout={PATIENCE}")
    certificate = f"PIP_CERT={guest.servers.certificate}"
    words = (*told("pip", "simple"), certificate, "PIP_CONFIG_FILE=/dev/null", *pip, "install", "--no-cache-dir")
    guest.run(*words, "--target", target, "greeting")
    assert "hello from a wheel" in (target / "greeting.py").read_text()


def test_npm_installs_from_a_registry(guest: Guest, tmp_path: Path) -> None:
    """And has its files from the host that the registry names."""
    own = (f"NPM_CONFIG_CAFILE={guest.servers.certificate}", f"NPM_CONFIG_CACHE={tmp_path}/cache")
    guest.run(*told("npm", "npm"), *own, "npm", "install", "--no-audit", "--prefix", tmp_path, "greeting")
    assert "hello from a module" in (tmp_path / "node_modules/greeting/index.js").read_text()


def test_apt_fetches_without_rights(guest: Guest) -> None:
    """As docs/reference/network.md says: below a directory that a user may write to."""
    with tempfile.TemporaryDirectory(prefix="mvmnix-apt-") as name:
        place = Path(name)
        place.chmod(0o777)  # it runs as another user
        (place / "sources.list").write_text("deb [trusted=yes] http://debian.example.com/debian ./\n")
        settings = {"Dir::Etc": place, "Dir::State::status": "/dev/null", "Dir::State": place, "Dir::Cache": place}
        options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-C", name)
        apt = (*user, "APT_CONFIG=/dev/null", "apt-get", *options)
        guest.run(*apt, "update")
        guest.run(*apt, "download", "greeting")
        assert (place / "greeting_1.0_all.deb").is_file()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_apt_updates_and_installs(guest: Guest, tmp_path: Path, scheme: str) -> None:
    for place in ("lists/partial", "archives/partial", "root/var/lib/dpkg/updates", "root/var/lib/dpkg/info", "etc"):
        (tmp_path / place).mkdir(parents=True)
    status = tmp_path / "root/var/lib/dpkg/status"
    status.touch()
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] {scheme}://debian.example.com/debian ./\n")
    settings = {
        "Dir::Etc": tmp_path / "etc",
        "Dir::Etc::sourcelist": tmp_path / "sources.list",
        "Dir::State": tmp_path,
        "Dir::State::lists": tmp_path / "lists",
        "Dir::State::status": status,
        "Dir::Cache": tmp_path,
        "Dir::Cache::archives": tmp_path / "archives",
        "APT::Sandbox::User": "root",
        "Acquire::https::CaInfo": guest.servers.certificate,
        "Acquire::Languages": "none",
        "DPkg::Options::": f"--root={tmp_path / 'root'}",
    }
    apt = ("apt-get", "-y", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}")))
    guest.run("env", "APT_CONFIG=/dev/null", *apt, "update")
    guest.run("env", "APT_CONFIG=/dev/null", *apt, "install", "greeting")
    assert (tmp_path / "root/usr/share/greeting").read_text() == "hello from a package\n"


def test_git_clones(guest: Guest, tmp_path: Path) -> None:
    own = ("-c", f"http.sslCAInfo={guest.servers.certificate}")
    guest.run("git", *own, "clone", "-q", "https://git.example.com/greeting.git", tmp_path / "clone")
    assert (tmp_path / "clone/file").read_text() == "hello from a repository\n" * 1000


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_curl(guest: Guest, scheme: str) -> None:
    said = guest.run("curl", "-sS", "--fail", f"{scheme}://files.example.com/small")
    assert said == "a small file\n" * 100


CLIENTS = {
    "requests": "import requests\nprint(requests.get(URL).text)",
    "httpx": f"import httpx\nprint(httpx.get(URL, timeout={PATIENCE}).text)",
    "aiohttp": """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession() as session, session.get(URL) as answer:
        print(await answer.text())
asyncio.run(main())
""",
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("client", CLIENTS)
def test_clients_in_python(guest: Guest, client: str, scheme: str) -> None:
    script = f"import os\nos.environ['REQUESTS_CA_BUNDLE'] = {str(guest.servers.certificate)!r}\n"
    said = guest.python(script + CLIENTS[client].replace("URL", f"'{scheme}://files.example.com/small'"))
    assert said.count("a small file") == 100


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_websocket(guest: Guest, scheme: str) -> None:
    script = f"""
from websockets.sync.client import connect
with connect("{scheme}://socket.example.com/", open_timeout={PATIENCE}, ping_interval=None) as socket:
    socket.send("hello")
    print(socket.recv())
    socket.send("x" * 1000000)
    print(len(socket.recv()))
"""
    assert guest.python(script) == "hello\n1000000\n"


def test_a_database(guest: Guest) -> None:
    with tempfile.TemporaryDirectory(prefix="mvmnix-database-") as name:
        Path(name).chmod(0o755)  # it runs as another user
        with network_servers.database(Path(name, "database"), DB):
            psql = ("psql", "-At", "-h", "db.example.com", "-U", "tests", "postgres", "-c")
            said = guest.run(*psql, "select sum(g), repeat('x', 3) from generate_series(1, 100000) g")
            assert said == "5000050000|xxx\n"
            assert len(guest.run(*psql, "select repeat('x', 1000000)")) == 1_000_001


def test_a_large_download(guest: Guest) -> None:
    said = guest.run(
        "curl", "-sS", "--fail", "-o", "/dev/null", "-w", "%{size_download}", "https://files.example.com/large"
    )
    assert said == str(LARGE)


def test_two_hundred_fetches_at_once(guest: Guest) -> None:
    script = """
import aiohttp, asyncio
async def fetch(session):
    async with session.get("https://files.example.com/small") as answer:
        return len(await answer.read())
async def main():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200, force_close=True)) as session:
        sizes = await asyncio.gather(*(fetch(session) for _ in range(200)))
    print(len(sizes), set(sizes))
asyncio.run(main())
"""
    assert guest.python(script) == "200 {1300}\n"


def test_what_is_not_allowed_is_said_to_each(guest: Guest) -> None:
    said = guest.tried("curl", "-sS", "https://other.example.com/")
    assert "Could not resolve host" in said.stderr
    said = guest.tried("git", "ls-remote", "https://index.example.org/x.git")
    assert "Could not resolve host" in said.stderr
