"""Knows the addresses that forges serve archives and commits at, and what their answers mean; pure.

As Nix 2.26 builds them (nix: libfetchers/github.cc). The download worker takes answers apart (worker/documents.py).
Preview: tested against stand-ins on the loopback.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from mvmnix.arguments import Commit
from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.worker.packets import Document
from mvmnix.errors import MvmnixError
from mvmnix.formats.flake_references import Forge, NodeKind

#: Each forge's own host, in pieces: mvm talks to none of them unless the configuration lists it.
_HOSTS: Final = {
    kind: ".".join(words)
    for kind, words in {
        NodeKind.GITHUB: ("github", "com"),
        NodeKind.GITLAB: ("gitlab", "com"),
        NodeKind.SOURCEHUT: ("git", "sr", "ht"),
    }.items()
}
_COMMIT: Final = r"[0-9a-f]{40}"
#: An answer of an interface is no larger, in bytes.
ANSWER_LIMIT: Final = 4 << 20


def archive_url(place: Forge, allowed: Allowlist, *, private: bool) -> str:
    """Where the archive of a commit lies; GitHub gives private ones through its programming interface only.

    Raises RefusedError [argument-unsafe] for what is no commit.
    """
    base, own = _base(place, allowed)
    rev = Commit(place.rev)
    match place.kind:
        case NodeKind.GITHUB if own and not private:
            return f"{base}/{place.owner}/{place.repo}/archive/{rev}.tar.gz"
        case NodeKind.GITHUB:
            return f"{_github(base, own=own)}/repos/{place.owner}/{place.repo}/tarball/{rev}"
        case NodeKind.GITLAB:
            return f"{_gitlab(base, place)}/archive.tar.gz?sha={rev}"
        case NodeKind.SOURCEHUT:
            return f"{base}/{place.owner}/{place.repo}/archive/{rev}.tar.gz"
        case _:
            raise ValueError(f"{place.kind} is not a forge")


def commit_url(place: Forge, allowed: Allowlist) -> str:
    """Where it says which commit a branch or tag means, the default branch without one."""
    base, own = _base(place, allowed)
    ref = quote(place.ref or "HEAD", safe="")
    match place.kind:
        case NodeKind.GITHUB:
            return f"{_github(base, own=own)}/repos/{place.owner}/{place.repo}/commits/{ref}"
        case NodeKind.GITLAB:
            return f"{_gitlab(base, place)}/commits?ref_name={ref}"
        case NodeKind.SOURCEHUT:
            return f"{base}/{place.owner}/{place.repo}/info/refs"
        case _:
            raise ValueError(f"{place.kind} is not a forge")


def document(place: Forge) -> Document:
    """What an answer from `commit_url` is."""
    match place.kind:
        case NodeKind.GITHUB:
            return Document.GITHUB
        case NodeKind.GITLAB:
            return Document.GITLAB
        case _:
            return Document.REFS


def commit(place: Forge, texts: Sequence[str]) -> str:
    """The commit that an answer from `commit_url` names, of which these are the texts. Raises MvmnixError."""
    found = texts[0] if texts and place.kind is not NodeKind.SOURCEHUT else _advertised(texts, place.ref)
    if not re.fullmatch(_COMMIT, found):
        raise no_commit(place, f"it has no {place.ref or 'HEAD'}")
    return found


def no_commit(place: Forge, why: str) -> MvmnixError:
    """What to say of an answer that names none."""
    hint = "name another branch or tag, or a commit"
    return MvmnixError(f"{place.uri}: its forge names no commit: {why}", hint=hint)


def _advertised(texts: Sequence[str], ref: str) -> str:
    """Of names and commits in turns, the first that means this branch or tag; "" for none."""
    named = dict(zip(texts[::2], texts[1::2], strict=False))
    names = (ref, f"refs/heads/{ref}", f"refs/tags/{ref}") if ref else ("HEAD",)
    return next((named[name] for name in names if name in named), "")


def _base(place: Forge, allowed: Allowlist) -> tuple[str, bool]:
    """The forge's origin, and whether it is its own host; http only for an origin on the loopback that is listed so."""
    host = place.host or _HOSTS[place.kind]
    plain = f"http://{host}"
    return plain if plain in allowed.loopback else f"https://{host}", host == _HOSTS[place.kind]


def _github(base: str, *, own: bool) -> str:
    return base.replace("://", "://api.") if own else f"{base}/api/v3"


def _gitlab(base: str, place: Forge) -> str:
    return f"{base}/api/v4/projects/{place.owner}%2F{place.repo}/repository"
