"""Pip and apt-helper in the sandbox, against servers on the loopback: what they reach, and what they are given."""

import base64
import dataclasses
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, override

import pytest

from mvmnix.api.frontend import SilentProgress
from mvmnix.builder.fetch.downloads import downloaded
from mvmnix.builder.fetch.registries import FILES, Command
from mvmnix.builder.fetch.routes import Endpoint, Route, ToConfigured
from mvmnix.builder.pins.configured import file_urls
from mvmnix.builder.pins.debian import Apt, AptMirror, AptSettings
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.model import Source
from mvmnix.sandbox.helper import Bounds
from mvmnix.sandbox.trusted_executables import PYTHON
from mvmnix.system.private_dirs import Directory
from mvmnix.system.process import ProcessError
from mvmnix.system.store import Cache, Store
from tests.integration.misbehaving import Asked, Server
from tests.patience import EVENT_PATIENCE, PATIENCE, scaled
from tests.repository import ROOT

pytestmark = pytest.mark.integration
PLAIN = 61_000
SECRET = "hush-hush"
METADATA = "169.254.169.254"
NOWHERE = ToConfigured(frozenset())


def wheel(name: str = "small") -> bytes:
    data, info = io.BytesIO(), f"{name}-1.0.dist-info"
    with zipfile.ZipFile(data, "w") as file:
        file.writestr(f"{name}/__init__.py", "")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return data.getvalue()


WHEEL = wheel()
SMALL = Source("mirror://pypi/small-1.0-py3-none-any.whl", "small-1.0-py3-none-any.whl", Digest.of(WHEEL))
DEB = Source("mirror://debian/pool/s/small_1_all.deb", "small_1_all.deb", Digest.of(b"a package"))


class Site(Server):
    """A server; also an HTTP proxy. It notes whether a secret is on a command line when it is asked for something."""

    def __init__(self) -> None:
        super().__init__(otherwise=self._show)
        self.leaked = False
        self.pages: dict[str, bytes | str] = {}  # a text is where a redirect leads

    @property
    def credentials(self) -> set[str]:
        """What clients said who they are."""
        names = ("authorization", "proxy-authorization")
        said = [headers[name].split()[1] for _, headers in self.asked for name in names if name in headers]
        return {base64.b64decode(text).decode() for text in said}

    def _show(self, it: Asked) -> None:
        self.leaked |= any(SECRET.encode() in line for line in command_lines())
        match self.pages.get(it.path):
            case str(place):
                it.redirect(place)
            case None:
                it.answer(b"", status="404 Not Found")
            case page:
                it.answer(page, *(["Content-Type: text/html"] if page.startswith(b"<") else []))


def command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            """It has ended."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Directory.create(str(tmp_path / "sources")) as directory:
        yield Cache(directory)


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Pip's configuration, in place of this machine's."""
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(path))

    def write(text: str) -> None:
        path.write_text(f"[global]\nretries = 0\ntimeout = 5\n{text}\n")

    return write


def page(link: str, data: bytes = WHEEL) -> bytes:
    return f'<!DOCTYPE html><a href="{link}#sha256={hashlib.sha256(data).hexdigest()}">small</a>'.encode()


#: An index of the one wheel.
INDEX: dict[str, bytes | str] = {
    "/simple/small/": page("../../files/small-1.0-py3-none-any.whl"),
    "/files/small-1.0-py3-none-any.whl": WHEEL,
}


def fetch(source: Source, store: Store, **options: Any) -> None:
    """Have a file fetched into the store."""
    fetch_sources([source], store, SilentProgress(), **options)
    assert store.has(source.digest)


def run(script: str, route: Route = NOWHERE, names: tuple[str, ...] = ("said",), **bounds: float) -> str:
    """What a Python script in a client's place leaves in the file `said`."""
    command = Command(PYTHON, ("-I", "-c", f"files = {FILES!r}\n{script}"), route)
    with downloaded(command, names, dataclasses.replace(Bounds(), **bounds)) as done:  # type: ignore[arg-type]
        assert done.status == 0, done.said
        return b"".join(done.content("said") or ()).decode()


def test_wheels_come_from_the_configured_index(site: Site, store: Store, configured: Callable[[str], None]) -> None:
    configured(f"index-url = http://me:{SECRET}@127.0.0.1:{site.port}/simple")
    site.pages = INDEX
    fetch(SMALL, store)
    assert site.credentials == {f"me:{SECRET}"}
    assert not site.leaked


def test_an_index_says_where_it_serves_files_from(
    site: Site, configured: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pip asks it as configured, by the proxy; an index without pip is an error."""
    configured("trusted-host = files.test\nno-index = true")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.port}")
    file = "http://files.test/pip-1.0-py3-none-any.whl"
    site.pages = {"http://index.test/simple/pip/": page(file, wheel("pip")), file: wheel("pip")}
    (found,) = file_urls("pip", f"http://me:{SECRET}@index.test/simple/")
    assert found.partition("#")[0] == file
    assert f"me:{SECRET}" in site.credentials
    assert not site.leaked
    with pytest.raises(MvmnixError, match="pip chose no wheels"):
        file_urls("pip", "http://index.test/none/")


def test_a_registry_says_where_it_serves_files_from(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{site.port}")
    file = "http://files.test/npm-1.0.0.tgz"
    version = {"name": "npm", "version": "1.0.0", "dist": {"tarball": file}}
    document = {"name": "npm", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    site.pages = {"http://npm.test/npm": json.dumps(document).encode()}
    assert file_urls("npm", "http://npm.test/") == (file,)
    with pytest.raises(MvmnixError, match="npm found no file"):
        file_urls("npm", "http://npm.test/none/")
    version["dist"] = {"tarball": f"{file}\nhttp://other.test/npm.tgz"}
    site.pages = {"http://npm.test/npm": json.dumps(document).encode()}
    with pytest.raises(MvmnixError, match="npm found no file"):
        file_urls("npm", "http://npm.test/")


@pytest.mark.parametrize("how", ["link", "redirect"])
def test_an_index_leads_pip_to_no_private_place(
    site: Site, store: Store, configured: Callable[[str], None], how: str
) -> None:
    configured(f"index-url = http://127.0.0.1:{site.port}/simple")
    target = f"http://{METADATA}/small-1.0-py3-none-any.whl"
    site.pages = {"/simple/small/": page(target if how == "link" else "/files/small-1.0-py3-none-any.whl")}
    site.pages["/files/small-1.0-py3-none-any.whl"] = target
    with pytest.raises(MvmnixError, match=f"{METADATA}:80: refused .*it is not configured, and no host name"):
        fetch_sources([SMALL], store, SilentProgress())
    assert not store.has(SMALL.digest)


def test_pip_reaches_a_configured_proxy_and_nothing_else(
    site: Site, store: Store, configured: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configured("index-url = http://index.test/simple\ntrusted-host = index.test files.test")
    monkeypatch.setenv("http_proxy", f"http://me:{SECRET}@127.0.0.1:{site.port}")
    site.pages = {"http://index.test/simple/small/": page("http://files.test/small-1.0-py3-none-any.whl")}
    site.pages["http://files.test/small-1.0-py3-none-any.whl"] = WHEEL
    with pytest.raises(MvmnixError, match="some places through a proxy"):
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://direct.test/")
        monkeypatch.setenv("no_proxy", "direct.test")
        fetch_sources([SMALL], store, SilentProgress())
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL")
    fetch(SMALL, store)
    assert site.credentials == {f"me:{SECRET}"}
    assert not site.leaked


def test_wheels_come_from_a_configured_directory(
    site: Site, store: Store, configured: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/small-1.0-py3-none-any.whl").write_bytes(WHEEL)
    configured(f"no-index = true\nfind-links = {tmp_path}/wheels")
    fetch(SMALL, store)
    store.remove(SMALL.digest)
    configured("find-links = /proc/nowhere")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path}/wheels")
    fetch(SMALL, store)
    monkeypatch.delenv("PIP_FIND_LINKS")
    configured("no-index = true\nfind-links = wheels")
    with pytest.raises(MvmnixError, match="a relative path"):
        fetch_sources([dataclasses.replace(SMALL, digest=Digest.of(b"x"))], store, SilentProgress())


def test_the_configuration_of_pip_names_no_interpreter(
    site: Site, store: Store, configured: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "python").write_text(f"#!/bin/sh\n: > {tmp_path}/was-run\n")
    (tmp_path / "python").chmod(0o755)
    configured(f"index-url = http://127.0.0.1:{site.port}/simple\npython = {tmp_path}/python")
    site.pages = INDEX
    fetch(SMALL, store)
    assert not (tmp_path / "was-run").exists()


def apt(site: Site, netrc: bytes = b"", **environment: str) -> AptMirror:
    known = AptSettings({"Acquire::Retries": "0"}, environment, netrc)
    return AptMirror(f"http://127.0.0.1:{site.port}/debian" if not environment else "http://mirror.test/debian", known)


class OneMirror(Apt):
    """Apt's registry with one mirror, whatever this machine has."""

    def __init__(self, mirror: AptMirror) -> None:
        self.mirror = mirror

    @override
    def mirrors(self) -> tuple[AptMirror, ...]:
        return (self.mirror,)


def test_packages_come_from_the_mirror_with_its_credentials(site: Site, store: Store) -> None:
    site.pages = {"/debian/pool/s/small_1_all.deb": b"a package"}
    netrc = f"machine http://127.0.0.1:{site.port} login me password {SECRET}\n".encode()
    fetch(DEB, store, registries=[OneMirror(apt(site, netrc))])
    assert site.credentials == {f"me:{SECRET}"}
    assert not site.leaked


def test_a_mirror_leads_apt_to_no_private_place(site: Site, store: Store) -> None:
    site.pages = {"/debian/pool/s/small_1_all.deb": f"http://{METADATA}/x"}
    with pytest.raises(MvmnixError, match=f"{METADATA}:80: refused .*it is not configured"):
        fetch_sources([DEB], store, SilentProgress(), registries=[OneMirror(apt(site))])


def test_apt_reaches_a_configured_proxy_and_nothing_else(site: Site, store: Store) -> None:
    site.pages = {"http://mirror.test/debian/pool/s/small_1_all.deb": b"a package"}
    mirror = apt(site, http_proxy=f"http://me:{SECRET}@127.0.0.1:{site.port}")
    fetch(DEB, store, registries=[OneMirror(mirror)])
    assert site.credentials == {f"me:{SECRET}"}
    assert not site.leaked


def test_packages_come_from_a_configured_directory(store: Store, tmp_path: Path) -> None:
    (tmp_path / "repository/pool/s").mkdir(parents=True)
    (tmp_path / "repository/pool/s/small_1_all.deb").write_bytes(b"a package")
    mirror = AptMirror(f"file:{tmp_path}/repository", AptSettings({}, {}, b""))
    fetch(DEB, store, registries=[OneMirror(mirror)])


#: Fetches one package from a mirror on the loopback, with nothing of this machine's configuration.
FETCH = """
import sys
from mvmnix.api.frontend import SilentProgress
from mvmnix.builder.pins.sources import fetch_sources
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Cache
from tests.integration.test_registry_clients import DEB, AptMirror, AptSettings, OneMirror
port, store = sys.argv[1:]
with Directory.create(store) as directory:
    mirror = AptMirror(f"http://127.0.0.1:{port}/debian", AptSettings({}, {}, b""))
    fetch_sources([DEB], Cache(directory), SilentProgress(), registries=[OneMirror(mirror)])
    print(Cache(directory).has(DEB.digest))
"""


def test_an_interrupted_fetch_ends_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        argv = [sys.executable, "-c", FETCH, str(server.getsockname()[1]), str(tmp_path / "store")]
        with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True) as fetching:
            server.settimeout(EVENT_PATIENCE)
            connection, _ = server.accept()  # and no answer
            with connection:
                fetching.send_signal(signal.SIGINT)
                said = fetching.communicate(timeout=EVENT_PATIENCE)[1]
    assert b"KeyboardInterrupt" in said
    assert not [line for line in command_lines() if b"apt-helper" in line and DEB.digest.hex.encode() in line]


def test_a_plain_user_fetches_alike(site: Site) -> None:
    site.pages = {"/debian/pool/s/small_1_all.deb": b"a package"}
    argv = [sys.executable, "-c", FETCH, str(site.port)]
    if os.geteuid() == 0:
        argv = ["setpriv", f"--reuid={PLAIN}", f"--regid={PLAIN}", "--clear-groups", *argv]
    with tempfile.TemporaryDirectory(prefix="mvmnix-test-") as home:
        if os.geteuid() == 0:
            os.chown(home, PLAIN, PLAIN)
        environment = {"PATH": "/usr/bin:/bin", "HOME": home, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*argv, f"{home}/store"], cwd=ROOT, env=environment, capture_output=True, check=False, timeout=PATIENCE
        )
    assert done.stdout == b"True\n", done.stderr.decode()


def test_other_bytes_of_a_mirror_are_refused(site: Site, store: Store) -> None:
    site.pages = {"/debian/pool/s/small_1_all.deb": b"another package"}
    with pytest.raises(RefusedError) as refusal:
        fetch_sources([DEB], store, SilentProgress(), registries=[OneMirror(apt(site))])
    assert refusal.value.codes == (ReasonCode.SOURCE_MISMATCH,)


#: SOCKS 5 by hand: what a client that was taken over can do.
ASK = """
import http.client, os, socket
def ask(host, port):
    one = socket.create_connection(("127.0.0.1", 1080))
    one.sendall(b"\\5\\1\\0" + b"\\5\\1\\0\\3" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big"))
    one.recv(2)
    return one, one.recv(10)[1]
said = open(os.path.join(files, "said"), "w")
"""


def test_a_client_reaches_what_is_configured_through_the_gateway_alone(site: Site) -> None:
    site.pages = {"/x": b"the page"}
    script = f"""{ASK}
one, answer = ask("127.0.0.1", {site.port})
one.sendall(b"GET /x HTTP/1.0\\r\\n\\r\\n")
page = http.client.HTTPResponse(one)  # up to its length: the server keeps the connection open
page.begin()
said.write(f"{{answer}} {{page.read().decode()}} ")
for host, port in (("127.0.0.1", 22), ("localhost", 80), ({METADATA!r}, 80), ("10.0.0.1", 443)):
    said.write(f"{{ask(host, port)[1]}} ")
for family, place in (
    (socket.AF_INET, ("127.0.0.1", {site.port})), (socket.AF_INET, ({METADATA!r}, 80)), (socket.AF_INET6, ("::1", 80)),
):
    with socket.socket(family) as direct:
        direct.settimeout(3)
        said.write(f"{{direct.connect_ex(place) != 0}} ")
"""
    route = ToConfigured(frozenset({Endpoint("127.0.0.1", site.port)}))
    assert run(script, route) == "0 the page 2 2 2 2 True True True "
    assert site.paths() == ["/x"]


def test_only_regular_files_come_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the owner's")
    script = f"""
import os
os.chdir(files)
open("said", "w").write("good")
os.symlink("/etc/passwd", "link")
os.symlink({str(tmp_path / "secret")!r}, "outside")
os.mkfifo("fifo")
os.mkdir("directory")
"""
    command = Command(PYTHON, ("-I", "-c", f"files = {FILES!r}\n{script}"), NOWHERE)
    names = ("link", "outside", "fifo", "said", "directory", "absent")
    with downloaded(command, names) as done:
        found = {name: None if (one := done.content(name)) is None else b"".join(one) for name in names}
    assert found == {**dict.fromkeys(names), "said": b"good"}


def test_what_a_client_writes_to_its_standard_output_is_no_file() -> None:
    script = 'import os\nos.write(1, b"4\\nevil4\\nevil")\nopen(os.path.join(files, "said"), "w").write("good")'
    assert run(script) == "good"


def test_so_many_bytes_come_out_and_no_more() -> None:
    script = 'import os\nopen(os.path.join(files, "said"), "wb").write(bytes(1 << 20))'
    assert len(run(script, output=2 << 20)) == 1 << 20
    command = Command(PYTHON, ("-I", "-c", f"files = {FILES!r}\n{script}"), NOWHERE)
    with downloaded(command, ("said", "other", "said"), Bounds(output=3 << 19)) as done:
        assert (done.status != 0, len(b"".join(done.content("said") or ()))) == (True, 1 << 20)
    with downloaded(command, ("said", "other", "said"), Bounds(output=1 << 19)) as done:
        assert (done.status != 0, done.content("said")) == (True, None)


def test_a_client_that_does_not_end_is_ended() -> None:
    with pytest.raises(ProcessError, match="no end after"):
        run("import signal\nsignal.pause()", seconds=scaled(1))


def test_nothing_listens_once_the_client_has_ended() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with downloaded(Command(PYTHON, ("-I", "-c", ""), NOWHERE), ()):
        """It has ended."""
    assert {thread.name for thread in threading.enumerate()} <= before


def test_a_client_that_is_no_program_starts_nothing() -> None:
    program = dataclasses.replace(PYTHON, paths=("/proc/nowhere/python",))
    with pytest.raises(MvmnixError, match="is not installed"), downloaded(Command(program, (), NOWHERE), ()):
        pytest.fail("it ran")
