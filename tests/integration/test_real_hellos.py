"""ClientHellos of real programs: curl, OpenSSL, git with GnuTLS, Chromium, and Python's TLS that resumes a session."""

import datetime
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mvmnix.network.gateway.client_hello import Alert, ClientHello, ClientHelloReader, alert_record
from tests.browser import CHROMIUM
from tests.patience import EVENT_PATIENCE

pytestmark = pytest.mark.integration

NAME = "api.example.com"


@dataclass(frozen=True)
class Server:
    """Answers each client by an alert."""

    socket: socket.socket
    portion: int
    #: Of what clients said, in bytes.
    sizes: list[int] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def hello(self) -> ClientHello:
        """What the first client says; a second attempt finds nothing there."""
        connection, _ = self.socket.accept()
        self.socket.close()
        with connection:
            connection.settimeout(EVENT_PATIENCE)
            reader = ClientHelloReader()
            while (found := reader.feed(_some(connection, self.portion))) is None:
                pass
            self.sizes.append(len(reader.received))
            connection.sendall(alert_record(Alert.UNRECOGNIZED_NAME))
            connection.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while connection.recv(4096):
                    pass
        return found


def _some(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size)
    assert data, "the client left before its ClientHello was whole"
    return data


@contextmanager
def serving(portion: int = 4096) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(EVENT_PATIENCE)
        yield Server(listening, portion)


def said_by(directory: Path, server: Server, *argv: str) -> tuple[ClientHello, "subprocess.CompletedProcess[str]"]:
    """What a program says first, and how it takes the alert."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_TERMINAL_PROMPT": "0"}
    with ThreadPoolExecutor() as pool:
        found = pool.submit(server.hello)
        done = subprocess.run(
            argv,
            env=environment,
            cwd=directory,
            input="",
            capture_output=True,
            text=True,
            timeout=EVENT_PATIENCE,
            check=False,
        )
        return found.result(EVENT_PATIENCE), done


@pytest.mark.parametrize("portion", [4096, 7])
def test_curl(portion: int, tmp_path: Path) -> None:
    with serving(portion) as server:
        to = f"{NAME}:443:127.0.0.1:{server.port}"
        found, done = said_by(tmp_path, server, "curl", "-sS", "--connect-to", to, f"https://{NAME.upper()}/")
    assert (found.server_name, found.hides_a_name) == (NAME, False)
    assert done.returncode == 35
    assert "unrecognized name" in done.stderr


@pytest.mark.parametrize("options", [(), ("-tls1_2",), ("-tls1_3",)])
def test_openssl(options: tuple[str, ...], tmp_path: Path) -> None:
    with serving() as server:
        argv = ("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername", NAME, "-alpn", "h2,x")
        found, done = said_by(tmp_path, server, *argv, *options)
    assert (found.server_name, found.hides_a_name) == (NAME, False)
    assert "unrecognized name" in done.stderr


def test_openssl_s_post_quantum_hello_is_long(tmp_path: Path) -> None:
    with serving() as server:
        argv = ("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername", NAME)
        found, _ = said_by(tmp_path, server, *argv, "-groups", "X25519MLKEM768")
    assert (found.server_name, server.sizes[0] > 1024) == (NAME, True)


def test_openssl_s_hello_over_several_records(tmp_path: Path) -> None:
    with serving() as server:
        argv = ("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername", NAME)
        found, _ = said_by(tmp_path, server, *argv, "-max_send_frag", "512")
    assert (found.server_name, server.sizes[0] > 512) == (NAME, True)


def test_git_with_gnutls(tmp_path: Path) -> None:
    with serving() as server:
        at = f"{NAME}:{server.port}"
        argv = ("git", "-c", f"http.curloptResolve={at}:127.0.0.1", "ls-remote", f"https://{at}/a.git")
        found, done = said_by(tmp_path, server, *argv)
    assert (found.server_name, found.hides_a_name) == (NAME, False)
    assert done.returncode != 0


def _of_chromium(profile: Path) -> ClientHello:
    with serving() as server:
        rules = f"MAP {NAME}:443 127.0.0.1:{server.port}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        argv = (CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        quiet = ("--disable-background-networking", f"--user-data-dir={profile}", f"--host-resolver-rules={rules}")
        found, _ = said_by(profile, server, *argv, *quiet, "--dump-dom", f"https://{NAME}/")
    assert (found.server_name, server.sizes[0] > 1024) == (NAME, True)
    return found


def test_chromium(tmp_path: Path) -> None:
    """GREASE, a key of ML-KEM, and a GREASE of Encrypted ClientHello, which can't be told from a real one."""
    assert _of_chromium(tmp_path).hides_a_name


def test_chromium_without_encrypted_client_hello(tmp_path: Path) -> None:
    """What docs/reference/network.md says to set: the preference behind the policy EncryptedClientHelloEnabled."""
    (tmp_path / "Local State").write_text('{"ssl": {"ech_enabled": false}}')
    assert not _of_chromium(tmp_path).hides_a_name


def certificate(directory: Path) -> Path:
    """A certificate for the name, signed by itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "certificate.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_that_is_resumed(version: ssl.TLSVersion, tmp_path: Path) -> None:
    path = certificate(tmp_path)
    trusting, serves = ssl.create_default_context(cafile=path), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trusting.minimum_version = trusting.maximum_version = version
    serves.load_cert_chain(path)
    session: ssl.SSLSession | None = None
    found = []
    for _ in range(2):
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(down, up, server_hostname=NAME, session=session)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        said = up.read()
        hello = ClientHelloReader().feed(said)
        up.write(said)
        server = serves.wrap_bio(up, down, server_side=True)
        for step in (server.do_handshake, client.do_handshake, server.do_handshake, client.do_handshake):
            with suppress(ssl.SSLWantReadError):
                step()
        server.write(b"x")
        assert client.read() == b"x"
        session = client.session
        found.append((hello and hello.server_name, client.session_reused))
    assert found == [(NAME, False), (NAME, True)]
