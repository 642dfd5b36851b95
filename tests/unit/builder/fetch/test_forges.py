"""The addresses that forges are asked at, and what is read of their answers."""

import json

import pytest

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.forges import archive_url, commit, commit_url, document
from mvmnix.builder.fetch.worker.documents import PARSERS, BadDocumentError
from mvmnix.errors import MvmnixError
from mvmnix.formats.flake_references import Forge, NodeKind

REV = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = Allowlist(frozenset())
#: Not written in one piece: no file names a real host.
GITHUB, GITLAB, SOURCEHUT = (".".join(words) for words in (("github", "com"), ("gitlab", "com"), ("git", "sr", "ht")))
GITHUB_API = f"api.{GITHUB}"


def forge(kind: NodeKind, **others: str) -> Forge:
    return Forge(kind, "o", "r", **others)


@pytest.mark.parametrize(
    ("place", "private", "url"),
    [
        (forge(NodeKind.GITHUB), False, f"https://{GITHUB}/o/r/archive/{REV}.tar.gz"),
        (forge(NodeKind.GITHUB), True, f"https://{GITHUB_API}/repos/o/r/tarball/{REV}"),
        (forge(NodeKind.GITHUB, host="h.test"), False, f"https://h.test/api/v3/repos/o/r/tarball/{REV}"),
        (forge(NodeKind.GITLAB), False, f"https://{GITLAB}/api/v4/projects/o%2Fr/repository/archive.tar.gz?sha={REV}"),
        (
            forge(NodeKind.GITLAB, host="h.test"),
            True,
            f"https://h.test/api/v4/projects/o%2Fr/repository/archive.tar.gz?sha={REV}",
        ),
        (forge(NodeKind.SOURCEHUT), False, f"https://{SOURCEHUT}/o/r/archive/{REV}.tar.gz"),
    ],
)
def test_where_archives_lie(place: Forge, private: bool, url: str) -> None:
    fixed = Forge(place.kind, place.owner, place.repo, place.host, REV)
    assert archive_url(fixed, NOWHERE, private=private) == url


@pytest.mark.parametrize(
    ("place", "url"),
    [
        (forge(NodeKind.GITHUB), f"https://{GITHUB_API}/repos/o/r/commits/HEAD"),
        (forge(NodeKind.GITHUB, ref="a/b?c"), f"https://{GITHUB_API}/repos/o/r/commits/a%2Fb%3Fc"),
        (forge(NodeKind.GITLAB, ref="v1"), f"https://{GITLAB}/api/v4/projects/o%2Fr/repository/commits?ref_name=v1"),
        (forge(NodeKind.SOURCEHUT, host="h.test"), "https://h.test/o/r/info/refs"),
    ],
)
def test_where_commits_are_asked_for(place: Forge, url: str) -> None:
    assert commit_url(place, NOWHERE) == url


def test_http_is_for_a_listed_origin_on_the_loopback() -> None:
    place = forge(NodeKind.SOURCEHUT, host="127.0.0.1:8080")
    listed = Allowlist(frozenset(), frozenset({"http://127.0.0.1:8080"}))
    assert commit_url(place, listed) == "http://127.0.0.1:8080/o/r/info/refs"
    assert commit_url(place, NOWHERE) == "https://127.0.0.1:8080/o/r/info/refs"


@pytest.mark.parametrize(
    ("place", "answer"),
    [
        (forge(NodeKind.GITHUB), json.dumps({"sha": REV, "commit": {}}).encode()),
        (forge(NodeKind.GITLAB), json.dumps([{"id": REV}, {"id": "0" * 40}]).encode()),
        (forge(NodeKind.SOURCEHUT), f"{REV}\tHEAD\n".encode()),
        (forge(NodeKind.SOURCEHUT, ref="v1"), f"{'0' * 40}\trefs/heads/v10\n{REV}\trefs/tags/v1\n".encode()),
    ],
)
def test_which_commit_an_answer_names(place: Forge, answer: bytes) -> None:
    assert commit(place, PARSERS[document(place)](answer)) == REV


@pytest.mark.parametrize("kind", [NodeKind.GITHUB, NodeKind.GITLAB, NodeKind.SOURCEHUT])
@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b"\xff", b'[{"id":1}]', b'{"sha":"main"}', b"main\tHEAD\n"])
def test_an_answer_that_names_none(kind: NodeKind, answer: bytes) -> None:
    place = forge(kind)
    try:
        texts = PARSERS[document(place)](answer)
    except BadDocumentError:
        return  # which resolve.py says of it
    with pytest.raises(MvmnixError, match="names no commit"):
        commit(place, texts)
