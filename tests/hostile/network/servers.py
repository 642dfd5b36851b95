"""Servers of a world: names whose answers change from one question to the next, TLS with its own certificates, HTTP."""

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.hostile.network.world import Server, beyond

#: What each question for a name is answered: addresses, or another name (CNAME). The last answer stays.
Answers = Sequence[Sequence[str]]


class NameServer:
    """A DNS server by UDP and TCP (RFC 1035, 4.2), which knows these names and their answers, and keeps what was asked.

    An answer that begins with "truncated" comes by TCP alone.
    """

    def __init__(self, address: str, names: Mapping[str, Answers]) -> None:
        self.names = dict(names)
        self.asked: list[tuple[str, str]] = []
        self._counts = Counter[tuple[str, str]]()
        self._stack = ExitStack()
        with beyond(address):
            self._datagrams = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self._datagrams.bind((address, 53))
        self._stack.enter_context(Server(address, 53, self._serve))
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        with suppress(OSError):
            while True:
                query, peer = self._datagrams.recvfrom(4096)
                if not query:
                    return
                self._datagrams.sendto(self.reply(query, stream=False), peer)

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as file:
            while size := int.from_bytes(file.read(2)):
                answer = self.reply(file.read(size), stream=True)
                connection.sendall(len(answer).to_bytes(2) + answer)

    def reply(self, query: bytes, *, stream: bool) -> bytes:
        """The answer to one message."""
        message = dns.message.from_wire(query)
        question = message.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        answer = dns.message.make_response(message, recursion_available=True)
        if name not in self.names:
            self.asked.append((name, kind))
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer.to_wire()
        turns = self.names[name]
        turn = turns[min(self._counts[name, kind], len(turns) - 1)]
        if "truncated" in turn and not stream:
            answer.flags |= dns.flags.TC
            return answer.to_wire()
        self.asked.append((name, kind))
        self._counts[name, kind] += 1
        self._fill(answer, name, kind, turn)
        return answer.to_wire()

    def _fill(self, answer: dns.message.Message, name: str, kind: str, turn: Sequence[str]) -> None:
        for text in turn:
            if text == "truncated":
                continue
            if ":" not in text and not text[-1].isdigit():
                answer.answer.append(dns.rrset.from_text(f"{name}.", 0, "IN", "CNAME", f"{text}."))
                self._fill(answer, text, kind, self.names.get(text, [()])[0])
            elif kind == ("AAAA" if ":" in text else "A"):
                answer.answer.append(dns.rrset.from_text(f"{name}.", 0, "IN", kind, text))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._datagrams.shutdown(socket.SHUT_RDWR)
        self._stack.close()
        self._thread.join()


def certificate(where: Path, *names: str) -> Path:
    """A file with a key, and a certificate of these names that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = where / "certificate.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def tls_server(address: str, port: int, file: Path, serve: Callable[[ssl.SSLSocket], None]) -> Server:
    """Of Python's own TLS, whatever name it is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as made:
            serve(made)

    return Server(address, port, secured)


@contextmanager
def full_server(address: str, port: int) -> Iterator[None]:
    """One that takes nothing more: its queue is full, so that the kernel drops what asks for a connection."""
    with ExitStack() as stack:
        with beyond(address):
            full = stack.enter_context(socket.create_server((address, port), backlog=0))
            clients = [stack.enter_context(socket.socket()) for _ in range(4)]
        for one in clients:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(full.getsockname())
        yield


def http(connection: socket.socket, keep: Callable[[bytes], None] = lambda _: None) -> None:
    """Answers each request with its first line, and one for a WebSocket with a switch to it, then with what it gets.

    It looks for heads alone, and passes over what is none; `keep` is called with all that comes.
    """
    data = b""
    while more := connection.recv(65536):
        keep(more)
        data += more
        while b"\r\n\r\n" in data:
            head, _, data = data.partition(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                connection.sendall(switched + data)
                while more := connection.recv(65536):
                    connection.sendall(more)
                return
            if b" HTTP/1." in head:
                body = b"you asked " + head.split(b"\r\n")[0]
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
