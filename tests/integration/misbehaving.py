"""A web server on the loopback that does what a test tells it, be it against the protocol; and its own authority."""

import contextlib
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.patience import EVENT_PATIENCE

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """A certificate authority made for one test; `bundle` is what a client is to trust."""

    directory: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def bundle(self) -> Path:
        return self.directory / "ca.pem"

    @classmethod
    def create(cls, directory: Path) -> Self:
        authority = cls(directory)
        basic = x509.BasicConstraints(ca=True, path_length=0)
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = authority._builder("test authority", authority.key).add_extension(basic, critical=True)
        builder = builder.add_extension(usage, critical=True)
        certificate = builder.sign(authority.key, hashes.SHA256())
        authority.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    def context(self, *names: str) -> ssl.SSLContext:
        """What a server needs that is known by these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subjects = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        builder = self._builder(names[0], key).add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        pem = self.directory / f"{names[0]}.pem"
        pem.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    def _builder(self, name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )


@dataclass
class Asked:
    """One request, and the connection to answer it on."""

    path: str
    headers: dict[str, str]
    connection: socket.socket
    stopping: threading.Event
    #: How often the path was asked for so far, this time included.
    nth: int

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def answer(self, body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> None:
        size = len(body) if length is None else length
        head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers))
        self.send(head.encode() + b"\r\n" + body)

    def redirect(self, location: str, status: str = "302 Found") -> None:
        self.answer(b"", f"Location: {location}", status=status)

    def hang_up(self) -> None:
        """A FIN, after what was sent."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """A RST in the middle: what the peer has not read yet is gone as well."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def stall(self) -> None:
        """Say nothing more until the server is stopped."""
        self.stopping.wait()


type Handler = Callable[[Asked], None]


def _not_found(it: Asked) -> None:
    it.answer(b"no", status="404 Not Found")


class Server:
    """Answers each path by its handler, each connection in a thread; `asked` is what came in. A context manager."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, name: str = "localhost", *, otherwise: Handler = _not_found
    ) -> None:
        """`otherwise` answers paths that have no handler."""
        self._tls = tls
        self._otherwise = otherwise
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://{name}:{self.port}"
        self.routes: dict[str, Handler] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._conversing: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        for connection in [*self._conversing]:
            self._ask_no_more(connection)
        for thread in self._threads:
            thread.join()
        self._listening.close()

    @staticmethod
    def _ask_no_more(connection: socket.socket) -> None:
        """End the wait for another request: clients keep connections open. An answer on its way still goes out."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RD)  # a TLS connection's own one would end TLS

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(EVENT_PATIENCE)
            self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is None:
                self._converse(connection)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as secured:
                    self._converse(secured)

    def _converse(self, connection: socket.socket) -> None:
        self._conversing.add(connection)  # before it is looked whether the server stops
        try:
            self._take_requests(connection)
        finally:
            self._conversing.discard(connection)

    def _take_requests(self, connection: socket.socket) -> None:
        head = b""
        while not self._stopping.is_set():
            data = connection.recv(65536)
            if not data:
                return
            head += data
            while b"\r\n\r\n" in head:
                request, _, head = head.partition(b"\r\n\r\n")
                self._answer(request.decode(), connection)

    def _answer(self, request: str, connection: socket.socket) -> None:
        line, *lines = request.split("\r\n")
        path = line.split(" ")[1]
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
        self.asked.append((path, headers))
        asked = Asked(path, headers, connection, self._stopping, self.paths().count(path))
        handler = self.routes.get(path.partition("?")[0], self._otherwise)
        handler(asked)
