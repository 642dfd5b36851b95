"""Finds out what an unlocked reference means now, for `mvm lock`: its tree, and the attributes that lock it.

The attributes are those that Nix 2.26 writes (nix: libfetchers). Nothing is evaluated: a branch becomes a commit, an
address a hash, by asking the one place that the reference names. The lock trusts what it says now.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import parse_qsl, urlencode, urlsplit

from mvmnix.builder.fetch.flake_inputs import (
    FetchEnvironment,
    downloaded_file,
    downloaded_tree,
    file_archive,
    keep_archive,
    qualified_ref,
)
from mvmnix.builder.fetch.forges import ANSWER_LIMIT, archive_url, commit, commit_url, document, no_commit
from mvmnix.builder.fetch.https import Response
from mvmnix.builder.fetch.parsing import document_texts
from mvmnix.builder.fetch.unpack import Checkout, Depth, Unpacked, certificates, unpacked_commit
from mvmnix.builder.fetch.worker.packets import Document
from mvmnix.digest import Digest
from mvmnix.errors import ReasonCode, refuse
from mvmnix.formats import flake_references, lock
from mvmnix.formats.flake_references import Attributes, Forge, Git, NodeKind, Web
from mvmnix.formats.nar import nar_hash
from mvmnix.formats.strict import MalformedError
from mvmnix.system.store import Store


@dataclass(frozen=True, slots=True)
class Resolved:
    """The attributes that lock a reference, sorted, and the digest of its tree's archive, which the store has."""

    locked: Attributes
    nar: Digest


def resolve_reference(attributes: Attributes, store: Store, fetching: FetchEnvironment) -> Resolved:
    """What these attributes of a reference mean now. Raises as `bring` does, and RefusedError [lock-node-unsupported].

    A `narHash` among them is held against the tree: RefusedError [source-mismatch].
    """
    where = lock.original_place(flake_references.place(attributes).uri, attributes)
    authorization = fetching.credentials.authorization(where.uri)
    match where:
        case Git() as place:
            found = _git(place, attributes, store, fetching, authorization)
        case Web(kind=NodeKind.FILE) as place:
            with downloaded_file(place.url, fetching, authorization) as (file, _):
                digest, _ = nar_hash(file_archive(file))
                found = _kept(place, digest, file_archive(file), store, asked=attributes, own={"url": place.url})
        case Web() as place:
            with downloaded_tree(place.uri, place.url, fetching, authorization) as (tree, response):
                own = _immutable(place, response, fetching)
                times = {} if "lastModified" in own else _times(tree)
                found = _kept(place, tree.nar, tree.archive(), store, asked=attributes, own={**own, **times})
        case Forge() as place:
            found = _forge(place, attributes, store, fetching, authorization)
        case _:
            assert_never(where)
    fetching.fetched.add(flake_references.place(found.locked).uri, found.nar)
    return found


def _git(place: Git, attributes: Attributes, store: Store, fetching: FetchEnvironment, authorization: str) -> Resolved:
    flags = {name: True for name in ("shallow", "allRefs") if attributes.get(name)}
    checkout = Checkout(
        fetching.downloads.allowed.admit(place.url),
        place.rev,
        qualified_ref(place.ref),
        Depth.NEWEST if "shallow" in flags else Depth.HISTORY,
        everywhere="allRefs" in flags,
        authorization=authorization,
        certificates=certificates(fetching.environment),
    )
    with unpacked_commit(place.uri, checkout, fetching.bounds) as tree:
        counted = {"revCount": tree.revisions} if tree.revisions else {}
        own = {"url": place.url, "ref": place.ref or tree.ref, "rev": tree.rev, **counted, **flags, **_times(tree)}
        return _kept(place, tree.nar, tree.archive(), store, asked=attributes, own=own)


def _forge(
    place: Forge, attributes: Attributes, store: Store, fetching: FetchEnvironment, authorization: str
) -> Resolved:
    rev = place.rev or _commit(place, fetching, authorization)
    host = {"host": place.host} if place.host else {}
    named = {"owner": place.owner, "repo": place.repo, "rev": rev, **host}
    fixed = Forge(place.kind, place.owner, place.repo, place.host, rev)
    url = archive_url(fixed, fetching.downloads.allowed, private=bool(authorization))
    with downloaded_tree(fixed.uri, url, fetching, authorization) as (tree, _):
        own = {**named, **_times(tree)}
        return _kept(place, tree.nar, tree.archive(), store, asked=attributes, own=own)


def _commit(place: Forge, fetching: FetchEnvironment, authorization: str) -> str:
    answer = bytearray()
    headers = {"Authorization": authorization} if authorization else {}
    url = commit_url(place, fetching.downloads.allowed)
    fetching.downloads.get(url, answer.extend, headers=headers, limit=ANSWER_LIMIT)
    try:
        said = document_texts(fetching.downloads.lanes, document(place), bytes(answer))
    except MalformedError as error:
        raise no_commit(place, str(error)) from error
    return commit(place, said)


def _times(tree: Unpacked) -> dict[str, str | int | bool]:
    return {"lastModified": tree.modified}


def _immutable(place: Web, response: Response, fetching: FetchEnvironment) -> dict[str, str | int | bool]:
    """The URL that the server calls immutable, or the one that was asked; its query may hold attributes for Nix."""
    link = response.headers.get("link", "")
    found = document_texts(fetching.downloads.lanes, Document.IMMUTABLE, link.encode("latin-1")) if link else ()
    if not found:
        return {"url": place.url}
    parts = urlsplit(str(fetching.downloads.allowed.admit(found[0])))
    query = parse_qsl(parts.query, keep_blank_values=True)
    rest = urlencode([(name, value) for name, value in query if name not in {*_TEXTS, *_NUMBERS}])
    own: dict[str, str | int | bool] = {"url": parts._replace(query=rest).geturl()}
    own |= {name: value for name, value in query if name in _TEXTS}
    own |= {name: int(value) for name, value in query if name in _NUMBERS and re.fullmatch(r"[0-9]{1,15}", value)}
    return own


_TEXTS: Final = frozenset({"narHash", "rev"})
_NUMBERS: Final = frozenset({"lastModified", "revCount"})


def _kept(
    place: Forge | Git | Web, nar: Digest, content: Iterable[bytes], store: Store, *, asked: Attributes, own: Attributes
) -> Resolved:
    """The tree into the store, and its attributes, if it is the one that was promised, where one was.

    `asked` are the attributes that were asked with, `own` those that were found beside the hash.
    """
    for promised in (asked.get("narHash"), own.get("narHash")):
        if promised not in {None, nar.sri}:
            why, hint = f"its tree has {nar.sri}, and {promised} was promised", "find out who changed it"
            raise refuse(ReasonCode.SOURCE_MISMATCH, place.uri, why, hint)
    keep_archive(place.uri, content, nar, store)
    kind = "git" if isinstance(place, Git) else str(place.kind)
    directory = {"dir": asked["dir"]} if "dir" in asked else {}
    locked = {**own, **directory, "type": kind, "narHash": nar.sri}
    return Resolved(dict(sorted(locked.items())), nar)
