"""Lock nodes of every kind, brought from real servers on the loopback, and held against what Nix makes of them."""

import io
import json
import secrets
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mvmnix.builder.fetch.allowlist import Allowlist
from mvmnix.builder.fetch.credentials import Credentials
from mvmnix.builder.fetch.flake_inputs import Fetched, FetchEnvironment, bring_tree
from mvmnix.builder.fetch.https import Downloader
from mvmnix.builder.fetch.resolve import resolve_reference
from mvmnix.config import CredentialRule, TokenPlace
from mvmnix.digest import Digest
from mvmnix.errors import MvmnixError, ReasonCode, RefusedError
from mvmnix.formats import flake_references, lock
from mvmnix.formats.flake_references import Attributes
from mvmnix.sandbox.helper import Bounds
from mvmnix.system.private_dirs import Directory
from mvmnix.system.store import Store
from tests.fakes import Repository
from tests.git_server import TreeServer, serve
from tests.integration.locking import HostNix
from tests.integration.misbehaving import Authority
from tests.patience import EVENT_PATIENCE

pytestmark = pytest.mark.integration
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class World:
    """A server, a repository that it serves as /git/r.git and /dumb/r.git, and what fetching takes."""

    path: Path
    server: TreeServer
    repository: Repository
    store: Store
    fetching: FetchEnvironment

    @property
    def fresh(self) -> FetchEnvironment:
        """As if nothing had been fetched yet."""
        directory = Directory.create(str(self.path / f"fetched-{len(self.server.asked)}"))
        return replace(self.fetching, fetched=Fetched(directory))

    def publish(self) -> None:
        """Let the server have what the repository has."""
        bare = self.path / "repositories/r.git"
        self.repository.git("push", "-q", "--force", "--all", str(bare))
        subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)

    def nix(self, reference: str) -> dict[str, Any]:
        """What Nix itself, outside of any jail, says that this reference is locked to."""
        said = HostNix(self.path / "nix")("flake", "prefetch", "--json", reference)
        locked: dict[str, Any] = json.loads(said)["locked"]
        locked.pop("__final")
        return locked

    def asked(self, act: Callable[[], object]) -> list[str]:
        """The paths that the server was asked for meanwhile."""
        before = len(self.server.asked)
        act()
        return [one.path for one in self.server.asked[before:]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    tmp_path.chmod(0o700)
    repository = Repository.make(tmp_path / "source", {"a/b": "x", "d/flake.nix": "{}"})
    repository.git("branch", "-M", "main")
    repository.write("run", "#!/bin/sh\n").chmod(0o755)
    (repository.path / "link").symlink_to("a/b")
    repository.write(".gitattributes", "a/b export-ignore\n*.txt text eol=crlf\n*.txt filter=evil\n")
    repository.write("t.txt", "one\ntwo\n")
    repository.commit()
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(tmp_path / "repositories/r.git")], check=True)
    with serve(tmp_path / "repositories") as server:
        store, fetched = (Directory.create(str(tmp_path / name)) for name in ("store", "fetched"))
        with Downloader(Allowlist(frozenset(), frozenset({server.origin})), environment={}) as downloads:
            made = World(tmp_path, server, repository, Store(store), FetchEnvironment(downloads, Fetched(fetched)))
            made.publish()
            yield made


def tar(*members: tuple[str, bytes | Callable[[tarfile.TarInfo], None]], compression: str = "gz") -> bytes:
    """An archive of files and, by what a function makes of a member, anything else."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.mtime = 1_700_000_000
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                content(member)
                archive.addfile(member)
    return data.getvalue()


GOOD = tar(("top/flake.nix", b"{}"), ("top/a/b", b"x"))


def references(server: TreeServer, rev: str) -> dict[str, tuple[Attributes, str]]:
    """References, as attributes and as text."""
    git, dumb = f"{server.origin}/git/r.git", f"{server.origin}/dumb/r.git"
    return {
        "git": ({"type": "git", "url": git}, f"git+{git}"),
        "git, branch": ({"type": "git", "url": git, "ref": "main"}, f"git+{git}?ref=main"),
        "git, commit": ({"type": "git", "url": git, "rev": rev}, f"git+{git}?rev={rev}"),
        "git, all": ({"type": "git", "url": git, "rev": rev, "allRefs": True}, f"git+{git}?rev={rev}&allRefs=1"),
        "git, shallow": ({"type": "git", "url": git, "shallow": True}, f"git+{git}?shallow=1"),
        "dumb git": ({"type": "git", "url": dumb}, f"git+{dumb}"),
        "tarball": ({"type": "tarball", "url": f"{server.origin}/t.tar.gz"}, f"{server.origin}/t.tar.gz"),
        "xz": ({"type": "tarball", "url": f"{server.origin}/t.tar.xz"}, f"{server.origin}/t.tar.xz"),
        "file": ({"type": "file", "url": f"{server.origin}/f"}, f"file+{server.origin}/f"),
    }


def populate(world: World) -> None:
    world.server.files |= {"/t.tar.gz": GOOD, "/f": b"hello"}
    world.server.files["/t.tar.xz"] = tar(("top/x", b"x"), ("top/y/z", b"z"), compression="xz")


def refused(act: Callable[[], object]) -> tuple[ReasonCode, ...]:
    with pytest.raises(RefusedError) as caught:
        act()
    return caught.value.codes


def locked(world: World, attributes: Attributes) -> lock.LockedNode:
    return lock.tree_node("n", resolve_reference(attributes, world.store, world.fetching).locked)


KINDS = ("git", "git, branch", "git, commit", "git, all", "git, shallow", "dumb git", "tarball", "xz", "file")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reference_is_locked_as_nix_locks_it_and_then_brought(world: World, kind: str) -> None:
    populate(world)
    attributes, text = references(world.server, world.repository.git("rev-parse", "HEAD"))[kind]
    found = resolve_reference(attributes, world.store, world.fetching)
    assert found.locked == world.nix(text)
    node = lock.tree_node("n", found.locked)
    assert node.nar == found.nar
    other = Store(Directory.create(str(world.path / "other")))
    bring_tree(node, other, world.fresh)
    assert other.size(node.nar) == world.store.size(node.nar)


def test_the_tree_is_the_commits_whatever_its_attributes_say(world: World) -> None:
    """No filter, no line ending, no export-ignore: what Nix hashes is what git keeps."""
    found = resolve_reference({"type": "git", "url": f"{world.server.origin}/git/r.git"}, world.store, world.fetching)
    archive = world.store.read(found.nar, limit=_MIB)
    assert b"one\ntwo\n" in archive
    assert archive.count(b"entry") == 9  # a, a/b, d, d/flake.nix, .gitattributes, flake.nix, link, run, t.txt


def test_a_tree_is_fetched_once_from_each_uri(world: World) -> None:
    populate(world)
    node = locked(world, {"type": "tarball", "url": f"{world.server.origin}/t.tar.gz"})
    assert world.asked(lambda: bring_tree(node, world.store, world.fetching)) == []
    assert world.asked(lambda: bring_tree(node, world.store, world.fresh)) == ["/t.tar.gz"]


def test_another_uri_that_claims_a_cached_hash_is_asked_itself(world: World) -> None:
    populate(world)
    node = locked(world, {"type": "tarball", "url": f"{world.server.origin}/t.tar.gz"})
    world.server.files["/copy"] = GOOD
    world.server.files["/other"] = tar(("top/other", b""))
    copy, other, none = (
        replace(node, place=flake_references.Web(flake_references.NodeKind.TARBALL, f"{world.server.origin}/{name}"))
        for name in ("copy", "other", "none")
    )
    assert world.asked(lambda: bring_tree(copy, world.store, world.fetching)) == ["/copy"]
    assert refused(lambda: bring_tree(other, world.store, world.fetching)) == (ReasonCode.SOURCE_MISMATCH,)
    with pytest.raises(MvmnixError, match="404"):
        bring_tree(none, world.store, world.fetching)
    assert world.store.has(node.nar)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_hash_is_refused_and_nothing_kept(world: World, kind: str) -> None:
    populate(world)
    rev = world.repository.git("rev-parse", "HEAD")
    node = replace(locked(world, references(world.server, rev)[kind][0]), nar=Digest.of(b"other"))
    assert refused(lambda: bring_tree(node, world.store, world.fetching)) == (ReasonCode.SOURCE_MISMATCH,)
    assert not world.store.has(node.nar)
    assert refused(lambda: bring_tree(node, world.store, world.fetching)) == (ReasonCode.SOURCE_MISMATCH,)


@pytest.mark.parametrize("kind", ["git", "dumb git"])
def test_a_branch_that_moved_on_gives_the_locked_commit(world: World, kind: str) -> None:
    node = locked(world, references(world.server, "")[kind][0])
    world.repository.write("more", "x")
    world.repository.commit()
    world.publish()
    bring_tree(node, world.store, world.fresh)


def test_a_commit_that_is_gone_is_named(world: World) -> None:
    node = locked(world, references(world.server, "")["dumb git"][0])
    world.repository.git("checkout", "-q", "--orphan", "new")
    world.repository.commit()
    world.repository.git("branch", "-M", "new", "main")
    subprocess.run(["rm", "-r", str(world.path / "repositories/r.git")], check=True)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(world.path / "repositories/r.git")], check=True)
    world.publish()
    with pytest.raises(MvmnixError, match="could not be fetched"):
        bring_tree(node, world.store, world.fresh)


def test_an_immutable_link_is_what_is_locked(world: World) -> None:
    populate(world)
    rev = "0" * 40
    link = f"{world.server.origin}/fixed?x=1&rev={rev}&revCount=7"
    world.server.moved["/latest"] = "/t.tar.gz"
    world.server.headers["/t.tar.gz"] = {"Link": f'<{link}>; rel="immutable"'}
    found = resolve_reference({"type": "tarball", "url": f"{world.server.origin}/latest"}, world.store, world.fetching)
    assert found.locked == world.nix(f"tarball+{world.server.origin}/latest")
    assert found.locked["url"] == f"{world.server.origin}/fixed?x=1"


def test_hosts_that_are_not_listed_are_not_asked(world: World) -> None:
    for attributes in (
        {"type": "git", "url": "https://h.test/r.git"},
        {"type": "git", "url": f"{world.server.origin}9/r.git"},
        {"type": "tarball", "url": "https://h.test/t"},
        {"type": "github", "owner": "o", "repo": "r"},
        {"type": "git", "url": "ssh://git@h.test/r.git"},
    ):
        codes = refused(lambda: resolve_reference(attributes, world.store, world.fetching))  # noqa: B023 - called at once
        assert set(codes) <= {ReasonCode.FETCH_NOT_ALLOWED, ReasonCode.LOCK_NODE_UNSUPPORTED}
    assert world.server.asked == []


def test_git_over_tls_believes_named_certificates_alone(world: World, tmp_path: Path) -> None:
    for name in ("ca", "other"):
        (tmp_path / name).mkdir()
    authority, stranger = (Authority.create(tmp_path / name) for name in ("ca", "other"))
    with ExitStack() as opened:
        server = opened.enter_context(serve(tmp_path / "repositories", authority.context("localhost")))
        allowed = Allowlist(frozenset(), frozenset({server.origin}))
        downloads = opened.enter_context(Downloader(allowed, environment={}))
        trusting, other = (
            replace(world.fetching, downloads=downloads, environment={"SSL_CERT_FILE": str(one.bundle)})
            for one in (authority, stranger)
        )
        attributes: Attributes = {"type": "git", "url": f"{server.origin}/git/r.git"}
        assert resolve_reference(attributes, world.store, trusting).locked["ref"] == "refs/heads/main"
        with pytest.raises(MvmnixError, match="certificate"):
            resolve_reference(attributes, world.store, other)


def test_git_is_not_led_elsewhere(world: World, tmp_path: Path) -> None:
    with serve(tmp_path / "repositories") as other:
        target = f"{other.origin}/git/r.git/info/refs?service=git-upload-pack"
        world.server.moved["/moved/r.git/info/refs?service=git-upload-pack"] = target
        with pytest.raises(MvmnixError, match="is not http://127"):
            resolve_reference({"type": "git", "url": f"{world.server.origin}/moved/r.git"}, world.store, world.fetching)
        assert other.asked == []


def member(kind: bytes, target: str = "") -> Callable[[tarfile.TarInfo], None]:
    """What makes a member of an archive a link, a device or a FIFO."""

    def make(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.devmajor, info.devminor = kind, target, 1, 3

    return make


#: A name that no other file of this machine has.
ESCAPED = f"escaped-{secrets.token_hex(8)}"
HOSTILE = {
    "up": tar((f"top/../../{ESCAPED}", b"x"), ("top/a", b"x")),
    "absolute": tar((f"/work/{ESCAPED}", b"x"), ("/etc/passwd", b"x")),
    "through a link": tar(("top/l", member(tarfile.SYMTYPE, "/work")), (f"top/l/{ESCAPED}", b"x")),
    "hard link out": tar(("top/h", member(tarfile.LNKTYPE, "/etc/ld.so.cache")), ("top/a", b"x")),
    "device": tar(("top/null", member(tarfile.CHRTYPE)), ("top/a", b"x")),
    "FIFO": tar(("top/pipe", member(tarfile.FIFOTYPE)), ("top/a", b"x")),
    "no archive": b"\x7fELF and so on",
    "nothing": b"",
    "cut short": GOOD[:-40],
    "bomb": tar(("top/zeros", bytes(96 * _MIB)), compression="xz"),
    "many": tar(*((f"top/{number}", bytes(4 * _MIB)) for number in range(24)), compression="xz"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_gives_a_plain_tree_or_none(world: World, name: str) -> None:
    """Nothing leaves the jail but a NAR, and that has no name but its hash."""
    world.server.files["/t"] = HOSTILE[name]
    before = sorted(path for path in world.path.rglob("*") if "fetched" not in str(path))
    fetching = replace(world.fetching, bounds=Bounds(room=64 * _MIB, output=32 * _MIB, seconds=EVENT_PATIENCE))
    attributes: Attributes = {"type": "tarball", "url": f"{world.server.origin}/t"}
    try:
        found = resolve_reference(attributes, world.store, fetching)
    except RefusedError as error:
        assert error.codes == (ReasonCode.SOURCE_UNUSABLE,)
        assert sorted(path for path in world.path.rglob("*") if "fetched" not in str(path)) == before
        return
    archive = world.store.read(found.nar, limit=_MIB)
    assert b"root:" not in archive
    assert not Path("/work", ESCAPED).exists()


@pytest.mark.parametrize("name", ["bomb", "many", "no archive", "cut short"])
def test_these_give_none(world: World, name: str) -> None:
    world.server.files["/t"] = HOSTILE[name]
    fetching = replace(world.fetching, bounds=Bounds(room=64 * _MIB, output=32 * _MIB, seconds=EVENT_PATIENCE))
    attributes: Attributes = {"type": "tarball", "url": f"{world.server.origin}/t"}
    assert refused(lambda: resolve_reference(attributes, world.store, fetching)) == (ReasonCode.SOURCE_UNUSABLE,)


def test_a_credential_goes_to_the_node_that_it_is_for(world: World, tmp_path: Path) -> None:
    populate(world)
    token = tmp_path / "token"
    token.write_text("abc\n")
    token.chmod(0o600)
    origin = world.server.origin
    rules = (
        CredentialRule(f"git+{origin}/git/*", TokenPlace.ENVIRONMENT, "TOKEN"),
        CredentialRule(f"{origin}/private/*", TokenPlace.FILE, str(token)),
    )
    fetching = replace(world.fetching, credentials=Credentials(rules, {"TOKEN": "Basic xyz"}))
    world.server.files["/private/t"] = GOOD
    with serve(tmp_path) as other:
        other.files["/t"] = GOOD
        listed = frozenset({origin, other.origin})
        with Downloader(Allowlist(frozenset(), listed), environment={}) as downloads:
            fetching = replace(fetching, downloads=downloads)
            world.server.moved["/private/moved"] = f"{other.origin}/t"
            for attributes in (
                {"type": "tarball", "url": f"{origin}/t.tar.gz"},
                {"type": "tarball", "url": f"{origin}/private/t"},
                {"type": "tarball", "url": f"{origin}/private/moved"},
                {"type": "git", "url": f"{origin}/dumb/r.git"},
                {"type": "git", "url": f"{origin}/git/r.git"},
            ):
                found = resolve_reference(attributes, world.store, fetching)
                bring_tree(
                    lock.tree_node("n", found.locked), world.store, replace(fetching, fetched=world.fresh.fetched)
                )
        said = {(one.path.split("/")[1], one.authorization) for one in world.server.asked}
        assert said == {("t.tar.gz", ""), ("private", "Bearer abc"), ("dumb", ""), ("git", "Basic xyz")}
        assert {one.authorization for one in other.asked} == {""}


def test_a_secret_is_in_no_message(world: World) -> None:
    world.server.secret = "Bearer right"
    rules = (CredentialRule("*", TokenPlace.ENVIRONMENT, "TOKEN"),)
    fetching = replace(world.fetching, credentials=Credentials(rules, {"TOKEN": "wrong-secret"}))
    for attributes in (
        {"type": "git", "url": f"{world.server.origin}/git/r.git"},
        {"type": "file", "url": f"{world.server.origin}/f"},
    ):
        with pytest.raises(MvmnixError) as caught:
            resolve_reference(attributes, world.store, fetching)
        assert "wrong-secret" not in f"{caught.value} {caught.value.hint} {fetching!r}"
        assert "wrong-secret" not in repr(caught.value.__cause__)
    assert {one.authorization for one in world.server.asked} >= {"Bearer wrong-secret"}


FORGES: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "github": ("/api/v3/repos/o/r/commits/HEAD", "/api/v3/repos/o/r/tarball/{}", lambda rev: {"sha": rev}),
    "gitlab": (
        "/api/v4/projects/o%2Fr/repository/commits?ref_name=HEAD",
        "/api/v4/projects/o%2Fr/repository/archive.tar.gz?sha={}",
        lambda rev: [{"id": rev}],
    ),
}


@pytest.mark.parametrize("forge", FORGES)
def test_a_forge_by_a_stand_in_for_its_interface(world: World, forge: str) -> None:
    """Preview: no real forge was asked."""
    rev = "1" * 40
    commits, archive, answer = FORGES[forge]
    world.server.files |= {commits: json.dumps(answer(rev)).encode(), archive.format(rev): GOOD}
    asked = {"type": forge, "owner": "o", "repo": "r", "host": world.server.host}
    found = resolve_reference(asked, world.store, world.fetching)
    assert found.locked == {**asked, "rev": rev, "narHash": found.nar.sri, "lastModified": 1_700_000_000}
    paths = world.asked(lambda: bring_tree(lock.tree_node("n", found.locked), world.store, world.fresh))
    assert paths == [archive.format(rev)]


def test_sourcehut_by_a_stand_in(world: World) -> None:
    """Preview: no real forge was asked."""
    rev = "2" * 40
    world.server.files |= {
        "/~o/r/info/refs": f"{'3' * 40}\trefs/heads/other\n{rev}\trefs/heads/main\n".encode(),
        f"/~o/r/archive/{rev}.tar.gz": GOOD,
    }
    asked = {"type": "sourcehut", "owner": "~o", "repo": "r", "host": world.server.host, "ref": "main"}
    assert resolve_reference(asked, world.store, world.fetching).locked["rev"] == rev
    with pytest.raises(MvmnixError, match="it has no absent"):
        resolve_reference(asked | {"ref": "absent"}, world.store, world.fetching)


def test_a_promised_hash_is_held_against_the_tree(world: World) -> None:
    populate(world)
    attributes = {"type": "file", "url": f"{world.server.origin}/f", "narHash": Digest.of(b"").sri}
    assert refused(lambda: resolve_reference(attributes, world.store, world.fetching)) == (ReasonCode.SOURCE_MISMATCH,)
