"""Asks registries by the one downloader; brings what an OCI reference names into the store, no byte of it unhashed.

1. What the store has is not asked for.
2. A registry on the allowlist is asked by https; one on the loopback, by the origin that is listed.
3. A registry that asks for a token is given an anonymous one only, from a host that is on the allowlist too.
4. The bytes are hashed as they come, and kept only if they are those that were named.
5. A list's next page is asked for at the list's own address, whatever its registry says.

Tokens are those of RFC 9110, section 11.6.1, and of the distribution project's "Token Authentication Specification".
Lists are those of OCI distribution specification 1.1, "Listing Referrers", and RFC 8288. The download worker takes
challenge, answer and Link field apart (builder/fetch/worker/documents.py).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol
from urllib.parse import unquote, urlencode

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.https import Downloader, Response
from mvmnix.builder.fetch.parsing import document_texts, json_value
from mvmnix.builder.fetch.registries import Progress
from mvmnix.builder.fetch.resumable import DownloadError
from mvmnix.builder.fetch.worker.packets import Document
from mvmnix.builder.oci.descriptors import INDEXES, LIMIT, MANIFESTS, MAX_BYTES
from mvmnix.builder.oci.reference import SCHEME, OciRef
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError, refuse
from mvmnix.formats.strict import MalformedError
from mvmnix.model import Source
from mvmnix.system.store import Store

#: Largest answer of a token service, in bytes.
TOKEN_LIMIT: Final = 1 << 16
_WORD: Final = re.compile(r"[!-~]{1,32768}")
_ACCEPT: Final = ", ".join((*INDEXES, *MANIFESTS))
_HINT: Final = "images that need a login are not supported: docs/reference/oci.md"


class Registry(Protocol):
    """Where images come from; see Registries."""

    def document(self, reference: OciRef) -> bytes:
        """The bytes of an index or manifest."""

    def blob(self, reference: OciRef) -> bytes:
        """The bytes of a configuration."""

    def decode(self, data: bytes) -> object:
        """The value of these bytes as JSON. Raises MalformedError."""


class RegistryClient:
    """Asks any registry that the downloader may reach. Tokens live as long as this object."""

    def __init__(self, downloader: Downloader) -> None:
        self._downloader = downloader
        self._tokens: dict[tuple[str, str], str] = {}

    def decode(self, data: bytes) -> object:
        """What a document says: the download worker takes it apart. Raises MalformedError, DownloadError."""
        return json_value(self._downloader.lanes, data)

    def get(self, reference: OciRef, path: str, write: Callable[[bytes], object], limit: int) -> Response:
        """Stream what the reference's repository has under `path`; what it has to be is the caller's to look at.

        Raises RefusedError, TooLargeError among them, and DownloadError.
        """
        place, url = (reference.host, reference.name), self._url(reference, path)
        try:
            return self._downloader.get(url, write, headers=self._headers(place), limit=limit)
        except DownloadError as error:
            if error.status != 401 or not error.challenge or place in self._tokens:
                raise
            # 3. an anonymous token
            self._tokens[place] = self._token(self._token_url(error.challenge, reference.name))
            return self._downloader.get(url, write, headers=self._headers(place), limit=limit)

    def page_after(self, reference: OciRef, path: str, answer: Response) -> str:
        """The path of the page that follows this answer to `path`, "" where it is the last.

        Raises MalformedError for a Link field that is none, or leads elsewhere; DownloadError.
        """
        said = answer.headers.get("link", "")
        targets = document_texts(self._downloader.lanes, Document.NEXT, said.encode("latin-1")) if said else ()
        if not targets:
            return ""
        # 5. the list's own address
        return page_after(path, self._url(reference, path), answer.url, targets[0], self._downloader.allowed)

    def _url(self, reference: OciRef, path: str) -> str:
        # 2. how it is asked
        plain = f"http://{reference.host}"
        origin = plain if plain in self._downloader.allowed.loopback else f"https://{reference.host}"
        return f"{origin}/v2/{reference.name}/{path}"

    def _headers(self, place: tuple[str, str]) -> dict[str, str]:
        known = {"Authorization": f"Bearer {self._tokens[place]}"} if place in self._tokens else {}
        return {"Accept": _ACCEPT, **known}

    def _token_url(self, said: str, name: str) -> str:
        try:
            return token_url(document_texts(self._downloader.lanes, Document.CHALLENGE, said.encode("latin-1")), name)
        except MalformedError as error:
            raise unknown_challenge(f"{said[:80]!r}") from error

    def _token(self, url: str) -> str:
        said = bytearray()
        self._downloader.get(url, said.extend, limit=TOKEN_LIMIT)
        try:
            return parse_token(document_texts(self._downloader.lanes, Document.TOKEN, bytes(said)))
        except MalformedError as error:
            raise missing_token(str(error)) from error


class Registries:
    """All registries that the downloader may reach, before the store of sources."""

    def __init__(self, downloader: Downloader, store: Store) -> None:
        self._client = RegistryClient(downloader)
        self._store = store

    def document(self, reference: OciRef) -> bytes:
        """The bytes of an index or manifest. Raises RefusedError, DownloadError."""
        self._bring(reference, ("manifests",), LIMIT)
        return self._store.read(reference.digest, limit=LIMIT)

    def blob(self, reference: OciRef) -> bytes:
        """The bytes of a configuration. Raises RefusedError, DownloadError."""
        self._bring(reference, ("blobs",), LIMIT)
        return self._store.read(reference.digest, limit=LIMIT)

    def decode(self, data: bytes) -> object:
        """As that of RegistryClient."""
        return self._client.decode(data)

    def fetch(self, sources: Iterable[Source], progress: Progress) -> None:
        """Bring those sources that are parts of OCI images; what kind of part, their address does not tell."""
        parts = [source for source in sources if source.uri.startswith(SCHEME)]
        missing = [source for source in dict.fromkeys(parts) if not self._store.has(source.digest)]
        if missing:
            progress.total(len(missing))
        for source in missing:
            progress.advance(source.name, self._bring(_reference(source), ("blobs", "manifests"), MAX_BYTES))

    def _bring(self, reference: OciRef, kinds: tuple[str, ...], limit: int) -> int:
        # 1. what is there
        if self._store.has(reference.digest):
            return 0
        *others, last = kinds
        for kind in others:
            try:
                return self._download(reference, kind, limit)
            except DownloadError as error:
                if error.status != 404:
                    raise
        return self._download(reference, last, limit)

    def _download(self, reference: OciRef, kind: str, limit: int) -> int:
        incoming = self._store.receive()
        try:
            self._client.get(reference, f"{kind}/{reference.digest}", incoming.write, limit)
            # 4. the bytes that were named
            if incoming.digest != reference.digest:
                raise other_bytes(reference, incoming.digest)
            incoming.keep()
            return incoming.size
        finally:
            incoming.discard()


def token_url(texts: Sequence[str], name: str) -> str:
    """Where a token for pulling from repository `name` is given out, by realm and service of a challenge.

    What is asked for is what an anonymous pull needs, not what the registry suggests. Raises MvmnixError.
    """
    if len(texts) != 2:
        raise unknown_challenge("it is not a challenge for a bearer token")
    realm, service = texts
    asked = {"scope": f"repository:{name}:pull"} | ({"service": service} if service else {})
    return f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"


def parse_token(texts: Sequence[str]) -> str:
    """The token in a token service's answer, which it gives to every client. Raises MvmnixError."""
    match texts:
        case [text] if _WORD.fullmatch(text):
            return text
        case _:
            raise missing_token("it is not printable ASCII")


def unknown_challenge(why: str) -> MvmnixError:
    """What to say of another challenge."""
    return MvmnixError(f"the registry asks for a login that mvm does not know: {why}", hint=_HINT)


def missing_token(why: str) -> MvmnixError:
    """What to say of an answer without a token."""
    return MvmnixError(f"the registry's token service gives no token: {why}", hint=_HINT)


def page_after(path: str, asked: str, answered: str, target: str, allowed: Allowlist) -> str:
    """The path of the page that a link in the answer to `path` leads to: that path, with the query of the link.

    `asked` is the address of `path`, `answered` the one that gave the answer in the end, which the link is relative to.
    Raises MalformedError for a link to anywhere else.
    """
    own = allowed.admit(asked)
    try:
        there = allowed.follow(allowed.admit(answered), target)
    except RefusedError as error:
        raise MalformedError(
            f"its next page can't be asked for: {error.reasons[0].what}: {error.reasons[0].why}"
        ) from error
    place, _, query = there.target.partition("?")
    # what is asked for is written here, so that another spelling of the same path makes no difference
    if there.origin != own.origin or unquote(place) != own.target.partition("?")[0]:
        raise MalformedError(f"its next page would be elsewhere: {there}")
    path = path.partition("?")[0]
    return f"{path}?{query}" if query else path


def other_bytes(reference: OciRef, served: Digest) -> RefusedError:
    """What to say of bytes that are not those that were named."""
    why = f"what was served hashes to {served}"
    return refuse(ReasonCode.SOURCE_MISMATCH, str(reference), why, "find out who serves it")


def _reference(source: Source) -> OciRef:
    """What a source's address names, which has to be what its digest says. Raises RefusedError."""
    try:
        reference = OciRef.parse(source.uri)
    except (ValueError, MvmnixError) as error:
        raise refuse(
            ReasonCode.SOURCE_UNKNOWN, source.uri[:300], str(error), "pin it by digest: docs/reference/oci.md"
        ) from error
    if reference.digest != source.digest:
        why = f"its address names {reference.digest}, and it is pinned as {source.digest}"
        raise refuse(ReasonCode.SOURCE_MISMATCH, source.uri, why, "correct the pin")
    return reference
