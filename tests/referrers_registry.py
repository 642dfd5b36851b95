"""A small registry on the loopback, in memory, that serves the referrers API by TLS, in pages, to any client.

OCI distribution specification 1.1: push, pull and "Listing Referrers", for anonymous clients that fetch a token first.
What it stores has the digest that it is named by, and nothing else is looked at: a manifest may say of a layer what it
likes, as in registries that count on their clients.
"""

import json
import ssl
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Final, Self, override
from urllib.parse import parse_qs, urlencode, urlsplit

from mvmnix.builder.oci.reference import OciRef
from mvmnix.digest import Digest
from tests.unit.builder.oci.images import INDEX, MANIFEST, Document, Pushed, descriptor, name_of, text

_TOKEN: Final = "for-anyone"
_KINDS: Final = frozenset({"blobs", "manifests", "referrers"})


class ReferrersRegistry(ThreadingHTTPServer):
    """A context manager; `origin` is what config.toml lists, `host` what stands in references, `page` its page size.

    `link` writes the target of the Link field of a page, from its path and the query of the next one.
    """

    def __init__(self, tls: ssl.SSLContext, *, page: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        # hands are shaken by the thread of a connection, at its first byte
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.origin = f"https://{self.host}"
        self.page = page
        self.link: Callable[[str, str], str] = lambda path, query: f"{path}?{query}"
        self.lock = Lock()
        self.blobs: dict[str, bytes] = {}
        #: Media type and bytes of each manifest by repository and digest, in the order in which they came.
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.uploads: dict[str, bytes] = {}
        self.asked: list[str] = []

    @override
    def __enter__(self) -> Self:
        self._thread.start()
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, since it doesn't trust this server, is not a failure."""

    def push(self, image: Pushed, name: str) -> OciRef:
        """Store an image; returns what names it."""
        self.hold(*image.blobs.values())
        self.attach(name, image.document)
        return OciRef(self.host, name, Digest.of(image.document))

    def hold(self, *blobs: bytes) -> None:
        """Store blobs; repositories share them."""
        self.blobs |= {name_of(data): data for data in blobs}

    def attach(self, name: str, document: bytes, media_type: str = MANIFEST) -> None:
        """Store a manifest, which says itself what it refers to."""
        self.manifests[name, name_of(document)] = media_type, document

    def pages(self) -> list[str]:
        """Which lists of referrers, and which of their pages, it was asked for, each once."""
        return [path for path in dict.fromkeys(self.asked) if "/referrers/" in path]

    def referrers(self, name: str, digest: str) -> list[Document]:
        """The descriptors of all that refers to a digest."""
        found = []
        for (where, _), (media_type, data) in self.manifests.items():
            document = json.loads(data)
            if where == name and document.get("subject", {}).get("digest") == digest:
                kind = document.get("artifactType") or document.get("config", {}).get("mediaType", "")
                more = {"annotations": document["annotations"]} if "annotations" in document else {}
                found.append(descriptor(data, media_type, artifactType=kind, **more))
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ReferrersRegistry

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append(self.path)
        if url.path == "/token":
            self._answer(200, json.dumps({"token": _TOKEN}).encode())
        elif self._is_known():
            with self.server.lock:
                self._read(url.path, {name: values[0] for name, values in parse_qs(url.query).items()})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        """Begin an upload."""
        if self._is_known():
            with self.server.lock:
                place = f"{urlsplit(self.path).path.rstrip('/')}/{len(self.server.uploads)}"
                self.server.uploads[place] = b""
            self._answer(202, b"", Location=place)

    def do_PATCH(self) -> None:
        """More of an upload."""
        data, place = self._body(), urlsplit(self.path).path
        if self._is_known():
            with self.server.lock:
                self.server.uploads[place] += data
            self._answer(202, b"", Location=place)

    def do_PUT(self) -> None:
        """The end of an upload, or a manifest."""
        data, place = self._body(), urlsplit(self.path).path
        if self._is_known():
            name, kind, reference = self._split(place)
            with self.server.lock:
                more = self._hold(place, data) if kind == "blobs" else self._attach(name, reference, data)
            self._answer(201, b"", **more)

    def _hold(self, place: str, data: bytes) -> dict[str, str]:
        self.server.hold(self.server.uploads.pop(place) + data)
        return {}

    def _attach(self, name: str, reference: str, data: bytes) -> dict[str, str]:
        self.server.attach(name, data, self.headers["Content-Type"])
        if not reference.startswith("sha256:"):
            self.server.tags[name, reference] = name_of(data)
        subject = json.loads(data).get("subject")
        return {"OCI-Subject": subject["digest"]} if subject else {}

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _is_known(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {_TOKEN}":
            return True
        realm = f'Bearer realm="{self.server.origin}/token",service="tests"'
        self._answer(401, b"{}", **{"WWW-Authenticate": realm})
        return False

    def _split(self, path: str) -> tuple[str, str, str]:
        """Repository, kind and reference; empty for a path that has none."""
        parts = path.removeprefix("/v2/").split("/")
        at = next((i for i, it in enumerate(parts) if it in _KINDS), len(parts))
        return "/".join(parts[:at]), "".join(parts[at : at + 1]), "/".join(parts[at + 1 :])

    def _read(self, path: str, query: dict[str, str]) -> None:
        name, kind, reference = self._split(path)
        reference = self.server.tags.get((name, reference), reference)
        if path == "/v2/":
            self._answer(200, b"{}")
        elif kind == "referrers":
            self._list(path, self.server.referrers(name, reference), query)
        elif kind == "blobs" and reference in self.server.blobs:
            self._answer(200, self.server.blobs[reference])
        elif kind == "manifests" and (name, reference) in self.server.manifests:
            media_type, data = self.server.manifests[name, reference]
            self._answer(200, data, **{"Content-Type": media_type, "Docker-Content-Digest": reference})
        else:
            self._answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')

    def _list(self, path: str, every: list[Document], query: dict[str, str]) -> None:
        filtered = {"OCI-Filters-Applied": "artifactType"} if "artifactType" in query else {}
        if filtered:
            every = [it for it in every if it["artifactType"] == query["artifactType"]]
        names = [it["digest"] for it in every]
        start = names.index(query["last"]) + 1 if "last" in query else 0
        end = start + self.server.page
        more = {}
        if end < len(every):
            following = urlencode({**query, "last": names[end - 1]})
            more = {"Link": f'<{self.server.link(path, following)}>; rel="next"'}
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": every[start:end]}
        self._answer(200, text(document), **{"Content-Type": INDEX}, **filtered, **more)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
