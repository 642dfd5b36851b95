"""Knows the addresses that forges serve archives and commits at, and what their answers mean; pure.

As Nix 2.26 builds them (nix: libfetchers/github.cc). Preview: tested against stand-ins on the loopback.
"""

import re
from typing import Final
from urllib.parse import quote

from mvmnix import strict
from mvmnix.arguments import Commit
from mvmnix.builder.fetch.allow import Allowlist
from mvmnix.errors import MvmnixError
from mvmnix.lock import Forge, NodeKind

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
            raise ValueError(f"{place.kind} is no forge")


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
            raise ValueError(f"{place.kind} is no forge")


def commit(place: Forge, answer: bytes) -> str:
    """The commit that an answer from `commit_url` names. Raises MvmnixError."""
    try:
        match place.kind:
            case NodeKind.GITHUB:
                return _sha(strict.parse_json(answer, limit=ANSWER_LIMIT), "sha")
            case NodeKind.GITLAB:
                answers = strict.parse_json(answer, limit=ANSWER_LIMIT)
                return _sha(answers[0] if isinstance(answers, list) and answers else None, "id")
            case _:
                return _advertised(answer, place.ref)
    except ValueError as error:
        hint = "name another branch or tag, or a commit"
        raise MvmnixError(f"{place.uri}: its forge names no commit: {error}", hint=hint) from error


def _sha(value: object, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str) or not re.fullmatch(_COMMIT, found):
        raise ValueError(f"there is no {name} in its answer")
    return found


def _advertised(answer: bytes, ref: str) -> str:
    """The line of a dumb server's info/refs (gitprotocol-http(5)) that means this branch or tag."""
    parts = [line.partition("\t") for line in answer.decode(errors="replace").splitlines()]
    lines = {name: oid for oid, _, name in parts}
    for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}") if ref else ("HEAD",):
        if re.fullmatch(_COMMIT, lines.get(name, "")):
            return lines[name]
    raise ValueError(f"it has no {ref or 'HEAD'}")


def _base(place: Forge, allowed: Allowlist) -> tuple[str, bool]:
    """The forge's origin, and whether it is its own host; http only for an origin on the loopback that is listed so."""
    host = place.host or _HOSTS[place.kind]
    plain = f"http://{host}"
    return plain if plain in allowed.loopback else f"https://{host}", host == _HOSTS[place.kind]


def _github(base: str, *, own: bool) -> str:
    return base.replace("://", "://api.") if own else f"{base}/api/v3"


def _gitlab(base: str, place: Forge) -> str:
    return f"{base}/api/v4/projects/{place.owner}%2F{place.repo}/repository"
