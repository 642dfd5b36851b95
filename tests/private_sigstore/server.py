"""Serves a private Sigstore by HTTP on loopback, so that unmodified clients sign with it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, cast, override
from urllib.parse import parse_qs, quote, unquote, urlsplit

from mvmnix.formats import strict
from tests.private_sigstore.instance import Sigstore
from tests.private_sigstore.oidc import Issuer
from tests.private_sigstore.services import Fulcio, Rekor
from tests.private_sigstore.window import ALWAYS

#: Where clients that open no browser have the code shown to them.
OUT_OF_BAND = "urn:ietf:wg:oauth:2.0:oob"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; `location` is where a redirect leads."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    location: str | None = None


def as_json(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), status=status)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked."""

    path: str
    query: dict[str, str]
    bearer: str
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        return flat(self.body.decode())


def flat(text: str) -> dict[str, str]:
    """A query or form, each name once."""
    return {name: values[0] for name, values in parse_qs(text).items()}


@dataclass(frozen=True, slots=True)
class Served:
    """A private Sigstore at `base`, a URL on loopback. Whoever logs in at its issuer is `issuer.person`."""

    private: Sigstore
    base: str
    issuer: Issuer
    lock: Lock

    @property
    def fulcio_url(self) -> str:
        """For `cosign --fulcio-url`."""
        return self.base

    @property
    def rekor_url(self) -> str:
        """For `cosign --rekor-url`."""
        return self.base

    @property
    def tsa_url(self) -> str:
        """For `cosign --timestamp-server-url`."""
        return f"{self.base}/api/v1/timestamp"

    @property
    def issuer_url(self) -> str:
        """What certificates name as the issuer; for `cosign --oidc-issuer`."""
        return self.issuer.url

    def token(self, subject: str) -> str:
        """An identity token for somebody, good for five minutes from now."""
        return self.issuer.token(subject, datetime.now(UTC))

    def ambient(self, subject: str) -> dict[str, str]:
        """The variables by which a job of GitHub Actions gets its token; here it gets that of `subject`."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "ambient",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.base}/ambient/{quote(subject, safe='')}",
        }

    @property
    def trust_config(self) -> bytes:
        """ClientTrustConfig in canonical JSON: the trusted root, and where to sign. With the TSA."""
        return self.config(tsa=True)

    def config(self, *, tsa: bool) -> bytes:
        """The same, with or without the TSA."""

        def service(url: str) -> list[dict[str, Any]]:
            return [{"url": url, "majorApiVersion": 1, "validFor": ALWAYS.to_json(), "operator": "private"}]

        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service(self.fulcio_url),
            "oidcUrls": service(self.issuer_url),
            "rekorTlogUrls": service(self.rekor_url),
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": service(self.tsa_url) if tsa else [],
            "tsaConfig": {"selector": "ANY"},
        }
        return strict.canonical(
            {
                "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
                "trustedRoot": json.loads(self.private.trusted_root),
                "signingConfig": signing,
            }
        )

    def answer(self, method: str, request: Request) -> Answer:
        """Find who answers. Raises ValueError or KeyError for a request that nobody can."""
        now = datetime.now(UTC)
        route = self._routes().get(f"{method} {request.path}")
        if route is not None:
            return route(request, now)
        if request.path.startswith("/ambient/") and request.bearer == "ambient":
            subject = unquote(request.path.removeprefix("/ambient/").partition("&")[0])
            return as_json({"value": self.issuer.token(subject, now)})
        return as_json({"message": "no such service"}, 404)

    def _routes(self) -> dict[str, Callable[[Request, datetime], Answer]]:
        oidc = urlsplit(self.issuer_url).path
        return {
            f"GET {oidc}/.well-known/openid-configuration": lambda _, __: as_json(self.issuer.configuration()),
            f"GET {oidc}/keys": lambda _, __: as_json(self.issuer.keys()),
            f"GET {oidc}/authorize": self._authorize,
            f"POST {oidc}/token": self._exchange,
            "POST /api/v1/signingCert": self._certify_1,
            "POST /api/v2/signingCert": self._certify_2,
            "POST /api/v1/log/entries": self._log,
            "GET /api/v1/log/publicKey": lambda _, __: Answer(self.private.log.key.pem, "application/x-pem-file"),
            "POST /api/v1/timestamp": self._timestamp,
        }

    def _certify_1(self, request: Request, now: datetime) -> Answer:
        chain = Fulcio(self.private, self.issuer).issue(json.loads(request.body), request.bearer, now)
        return Answer("".join(chain).encode(), "application/pem-certificate-chain", 201)

    def _certify_2(self, request: Request, now: datetime) -> Answer:
        chain = Fulcio(self.private, self.issuer).issue(json.loads(request.body), request.bearer, now)
        return as_json({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})

    def _log(self, request: Request, now: datetime) -> Answer:
        return as_json(Rekor(self.private, self.lock).create(json.loads(request.body), now), 201)

    def _timestamp(self, request: Request, now: datetime) -> Answer:
        return Answer(self.private.tsa.answer(request.body, now), "application/timestamp-reply", 201)

    def _authorize(self, request: Request, _now: datetime) -> Answer:
        target = request.query["redirect_uri"]
        code = self.issuer.authorize(request.query["code_challenge"], target)
        if target == OUT_OF_BAND:
            return Answer(code.encode(), "text/plain")
        return Answer(b"", "text/plain", 302, f"{target}?code={code}&state={quote(request.query['state'])}")

    def _exchange(self, request: Request, now: datetime) -> Answer:
        form = request.form
        token = self.issuer.exchange(form["code"], form["code_verifier"], form["redirect_uri"], now)
        return as_json({"access_token": token, "id_token": token, "token_type": "Bearer", "expires_in": 300})


class _Server(ThreadingHTTPServer):
    """Knows what it serves."""

    served: Served


class _Handler(BaseHTTPRequestHandler):
    """Carries requests and answers."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def _handle(self, method: str) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        bearer = self.headers.get("Authorization", "").partition(" ")[2]
        # paths of clients begin with two slashes when a base ends in one
        request = Request("/" + url.path.lstrip("/"), flat(url.query), bearer, body)
        try:
            answer = cast("_Server", self.server).served.answer(method, request)
        except (ValueError, KeyError, TypeError) as error:
            answer = as_json({"code": 3, "message": f"{type(error).__name__}: {error}"}, 400)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.location is not None:
            self.send_header("Location", answer.location)
        self.end_headers()
        self.wfile.write(answer.body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test's output is its own."""


@contextmanager
def served(private: Sigstore, person: str = "person@mvmnix.test") -> Iterator[Served]:
    """Serve an instance on loopback for as long as the context lasts; `person` is who logs in at its issuer.

    Starts threads: for integration tests. Time is the machine's, as the clients' is.
    """
    with _Server(("127.0.0.1", 0), _Handler) as server:
        base = f"http://127.0.0.1:{server.server_port}"
        server.served = Served(private, base, Issuer(f"{base}/oidc", person), Lock())
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.served
        finally:
            server.shutdown()
            thread.join()
